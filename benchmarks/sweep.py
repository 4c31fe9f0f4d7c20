#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Documents per second of `muster encode`, or another job, over ranks, workers, compute types and batch budgets.

    python3 benchmarks/sweep.py -m models/all-MiniLM-L6-v2 -i docs.tsv -o sweep --ranks 1,2 --workers 1,2 --dtypes bf16,fp32
    python3 benchmarks/sweep.py ... --launcher mpirun           mpirun starts the ranks instead of muster itself
    python3 benchmarks/sweep.py ... --slurm=--partition=cpu     one Slurm array job, a task a point; waits for it
    python3 benchmarks/sweep.py ... --job sample -i prompts.csv --batch-tokens auto,4 --flags='--steps 20'   pictures a second
    python3 benchmarks/sweep.py ... --job train --flags='configs/train/classifier.yaml --epochs 1 --global-batch 64'

Every combination is run --repeats times, round after round, so that a slow minute of the machine does not hit one point alone.
A run is a whole process, from its start to its published result; the time it spent computing stands beside it. A document that is
trained on in three epochs counts three times, and --global-batch gives all points of training the same steps. Writes DIR/sweep.json
(machine, commit, commands, every run, best and median) and DIR/sweep.svg (docs/s against ranks x workers, with the ideal line of
each series). Points that are done are kept: the same command goes on where it stopped; --fresh starts over. Exit code 1 when a
point failed. Needs nothing but Python.
"""
import argparse
import itertools
import json
import math
import os
import pathlib
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent


# ---- points -----------------------------------------------------------------------------------------------------------------


def points_of(arguments):
    combinations = itertools.product(arguments.dtypes, arguments.batch_tokens, arguments.ranks, arguments.workers)
    return [{"ranks": int(ranks), "workers": int(workers), "dtype": dtype, "batch_tokens": budget}
            for dtype, budget, ranks, workers in combinations]


def command_of(arguments, point, out):
    job = [arguments.muster, arguments.job, "-m", arguments.model, "-i", arguments.input, "-o", str(out), "--dtype", point["dtype"],
           "--workers", str(point["workers"]), *batch_flags(arguments, point), *shlex.split(arguments.flags)]
    if arguments.limit:
        job += ["--limit", str(arguments.limit)]
    if arguments.launcher == "mpirun":
        return ["mpirun", "-n", str(point["ranks"]), "--oversubscribe", "--bind-to", "none", "-q", *job]
    return [*job, "-n", str(point["ranks"])]


def batch_flags(arguments, point):
    """Pictures are batched by their number, texts by their tokens."""
    if arguments.job != "sample":
        return ["--batch-tokens", point["batch_tokens"]]
    return [] if point["batch_tokens"] == "auto" else ["--batch-size", point["batch_tokens"]]


def documents_of(facts):
    """What a job worked on; of training all epochs, the last of which max_steps may have cut short."""
    if "steps" not in facts:
        return int(facts["rows"])
    documents, batch, epochs = (int(facts[name]) for name in ("training_documents", "global_batch", "epochs"))
    steps_beyond = int(facts["steps"]) - epochs * math.ceil(documents / batch)
    return epochs * documents + min(steps_beyond * batch, documents)


def run_once(arguments, point, scratch):
    """One run of one point: what came of it, and whatever failed it as `error`."""
    shutil.rmtree(scratch, ignore_errors=True)
    command = command_of(arguments, point, scratch)
    start = time.perf_counter()
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    seconds = time.perf_counter() - start
    if result.returncode not in (0, 4):  # 4: some documents failed, the others are there
        return {"error": f"exit code {result.returncode}: {result.stderr.strip()[-500:]}"}
    manifest = json.loads((scratch / "manifest.json").read_text())
    compute = {}
    for line in (scratch / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["name"] == "compute":
            compute[event["rank"]] = event["value"]
    shutil.rmtree(scratch)
    return {"seconds": seconds, "compute_seconds": max(compute.values()), "documents": documents_of(manifest["facts"]),
            "build": manifest["identity"]["note.build"]}


def summary(arguments, point, runs):
    good = [run for run in runs if "error" not in run]
    entry = {**point, "command": shlex.join(command_of(arguments, point, "DIR")), "host": platform.node(), "machine": machine(),
             "runs": runs}
    if len(good) < len(runs):
        entry["error"] = next(run["error"] for run in runs if "error" in run)
    if good:
        for name, seconds in (("docs_per_second", "seconds"), ("compute_docs_per_second", "compute_seconds")):
            rates = [run["documents"] / run[seconds] for run in good if run[seconds] > 0]
            entry[name] = {"best": max(rates), "median": statistics.median(rates)} if rates else None
    return entry


def machine():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}"}


# ---- running them -------------------------------------------------------------------------------------------------------------


def point_file(folder, index):
    return folder / f"point_{index:03d}.json"


def write_json(path, value):
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def runs_so_far(folder, index, point, arguments):
    """Good runs that an earlier start left. Points are known by their command: a sweep over other values does not take them."""
    try:
        entry = json.loads(point_file(folder, index).read_text())
    except (OSError, ValueError):
        return []
    same = entry["command"] == shlex.join(command_of(arguments, point, "DIR"))
    return [run for run in entry["runs"] if "error" not in run][: arguments.repeats] if same else []


def say(index, count, point, run):
    outcome = run["error"].splitlines()[0] if "error" in run else f"{run['documents'] / run['seconds']:.1f} docs/s"
    print(f"[{index + 1}/{count}] {point['ranks']} ranks x {point['workers']} workers, {point['dtype']}, batch tokens "
          f"{point['batch_tokens']}: {outcome}", flush=True)


def run_here(arguments, points, wanted, folder):
    runs = {index: runs_so_far(folder, index, points[index], arguments) for index in wanted}
    for completed in range(arguments.repeats):
        for index in wanted:
            if len(runs[index]) > completed:
                continue
            run = run_once(arguments, points[index], folder / f"out_{index:03d}")
            runs[index].append(run)
            say(index, len(points), points[index], run)
            write_json(point_file(folder, index), summary(arguments, points[index], runs[index]))


def run_on_slurm(arguments, points, wanted, folder):
    """One array job: task N is point N, on a node of its own unless --slurm says otherwise."""
    again = [sys.executable, str(pathlib.Path(__file__).resolve()), *[part for part in sys.argv[1:] if part != "--fresh"]]
    script = folder / "sweep.sbatch"
    script.write_text("\n".join([
        "#!/bin/bash",
        "#SBATCH --job-name=muster-sweep",
        f"#SBATCH --array={','.join(map(str, wanted))}",
        "#SBATCH --nodes=1",
        f"#SBATCH --ntasks={max(points[index]['ranks'] for index in wanted)}",
        f"#SBATCH --cpus-per-task={max(points[index]['workers'] for index in wanted)}",
        "#SBATCH --exclusive",
        f"#SBATCH --output={folder}/task_%a.log",
        f"exec {shlex.join(again)} --point \"$SLURM_ARRAY_TASK_ID\"",
        ""]))
    command = ["sbatch", "--wait", *shlex.split(arguments.slurm), str(script)]
    print(shlex.join(command), flush=True)
    subprocess.run(command)  # its code is that of the worst task; the points say more
    for index in wanted:
        if not point_file(folder, index).exists():
            write_json(point_file(folder, index), {**points[index], "command": "", "runs": [],
                                                   "error": f"the task left no result; see {folder}/task_{index}.log"})


# ---- the plot -----------------------------------------------------------------------------------------------------------------

# Colours and the grey of the text are readable on white and on black alike; nothing is painted behind them.
COLOURS = ("#0080c8", "#d5600a", "#00996b", "#c4649b", "#b58900", "#7f6fd0")
GREY = "#7a7a7a"
WIDTH, HEIGHT = 760, 480
LEFT, RIGHT, BOTTOM = 76, 24, 64
LEGEND, ROW = 38, 18  # where the legend starts, and the height of one of its rows


def nice_step(largest, steps):
    """The smallest 1, 2 or 5 times a power of ten of which `steps` reach `largest`."""
    rough = largest / steps
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def series_of(points):
    """Name -> its measured points, by rising number of threads."""
    budgets = {point["batch_tokens"] for point in points}
    series = {}
    for point in points:
        if point.get("docs_per_second"):
            name = point["dtype"] if len(budgets) == 1 else f"{point['dtype']}, batch tokens {point['batch_tokens']}"
            series.setdefault(name, []).append(point)
    for members in series.values():
        members.sort(key=lambda point: (point["ranks"] * point["workers"], point["ranks"]))
    return series


def legend_of(names):
    """(name, x, y) of each entry, in as many rows as it takes."""
    at, row, placed = LEFT, 0, []
    for name in names:
        width = 50 + 7.5 * len(name)
        if at > LEFT and at + width > WIDTH - RIGHT:
            at, row = LEFT, row + 1
        placed.append((name, at, LEGEND + ROW * row))
        at += width
    return placed


def plot(result):
    series = series_of(result["points"])
    legend = legend_of(series)
    top = max((at_y for _, _, at_y in legend), default=LEGEND) + ROW
    threads = [point["ranks"] * point["workers"] for members in series.values() for point in members]
    rates = [point["docs_per_second"]["best"] for members in series.values() for point in members]
    most, fastest = max(threads, default=1), max(rates, default=1.0)
    x_step, y_step = max(1, int(nice_step(most, 10))), nice_step(fastest * 1.05, 6)
    x_end, y_end = most + 0.5 * x_step, math.ceil(fastest * 1.05 / y_step) * y_step

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / x_end

    def y(value):
        return HEIGHT - BOTTOM - (HEIGHT - top - BOTTOM) * value / y_end

    def text(at_x, at_y, what, anchor="middle", extra=""):
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}"{extra}>{escape(what)}</text>'

    title = f"{result['model']}: {result['documents']} documents on {result['machine']['cpu']}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" '
           f'fill="{GREY}">',
           f"<title>{escape(title)}</title>", text(LEFT, 22, title, "start", ' font-size="14"')]
    for tick in range(int(y_end / y_step + 0.5) + 1):
        value = tick * y_step
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{GREY}" '
                   f'stroke-opacity="{1 if tick == 0 else 0.25}"/>')
        out.append(text(LEFT - 8, y(value) + 4, f"{value:,.10g}", "end"))
    for value in range(0, most + 1, x_step):
        out.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{y(0):.1f}" y2="{y(0) + 5:.1f}" stroke="{GREY}"/>')
        out.append(text(x(value), y(0) + 20, str(value)))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 26, "threads (ranks × workers)"))
    middle = (top + HEIGHT - BOTTOM) / 2
    out.append(text(20, middle, "documents per second", extra=f' transform="rotate(-90 20 {middle:.0f})"'))
    out.append(text(WIDTH - RIGHT, HEIGHT - 8, "dashed: ideal; bar: best run down to the median", "end", ' font-size="11"'))
    for index, (name, at_x, at_y) in enumerate(legend):
        colour = COLOURS[index % len(COLOURS)]
        out += draw_series(name, series[name], colour, (x, y, x_end, y_end))
        out.append(f'<line x1="{at_x:.0f}" x2="{at_x + 22:.0f}" y1="{at_y}" y2="{at_y}" stroke="{colour}" stroke-width="2"/>')
        out.append(text(at_x + 28, at_y + 4, name, "start"))
    return "\n".join([*out, "</svg>", ""])


def draw_series(name, members, colour, scale):
    x, y, x_end, y_end = scale
    first = members[0]
    a_thread = max(point["docs_per_second"]["best"] / (point["ranks"] * point["workers"])
                   for point in members if point["ranks"] * point["workers"] == first["ranks"] * first["workers"])
    until = min(x_end, y_end / a_thread)
    out = [f'<line class="ideal" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(until):.1f}" y2="{y(until * a_thread):.1f}" '
           f'stroke="{colour}" stroke-dasharray="5 4" stroke-opacity="0.7"/>']
    best = {}
    for point in members:
        threads = point["ranks"] * point["workers"]
        best[threads] = max(best.get(threads, 0), point["docs_per_second"]["best"])
    path = " ".join(f"{x(threads):.1f},{y(rate):.1f}" for threads, rate in sorted(best.items()))
    out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for point in members:
        threads, rate = point["ranks"] * point["workers"], point["docs_per_second"]
        at, top = x(threads), y(rate["best"])
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{y(rate["median"]):.1f}" stroke="{colour}" '
                   f'stroke-width="5" stroke-opacity="0.4"/>')
        out.append(f'<circle cx="{at:.1f}" cy="{top:.1f}" r="4" fill="{colour}"><title>{escape(name)}: '
                   f'{point["ranks"]} ranks × {point["workers"]} workers, best {rate["best"]:.1f}, median {rate["median"]:.1f} '
                   'documents/s</title></circle>')
        if sum(other["ranks"] * other["workers"] == threads for other in members) > 1:
            out.append(f'<text x="{at + 8:.1f}" y="{top + 4:.1f}" font-size="11" fill="{colour}">'
                       f'{point["ranks"]}×{point["workers"]}</text>')
    return out


# ---- the command line ---------------------------------------------------------------------------------------------------------


def result_of(arguments, points, folder):
    entries = [json.loads(point_file(folder, index).read_text()) for index in range(len(points))]
    runs = [run for entry in entries for run in entry["runs"] if "error" not in run]
    # On a cluster the points say where they ran; this script may have run on a login node.
    where = next((entry["machine"] for entry in entries if "machine" in entry), machine())
    return {"machine": where, "build": runs[0]["build"] if runs else None, "command": shlex.join([sys.executable, *sys.argv]),
            "date": time.strftime("%Y-%m-%d"), "model": os.path.basename(arguments.model.rstrip("/")), "input": arguments.input,
            "documents": runs[0]["documents"] if runs else 0, "launcher": arguments.launcher, "repeats": arguments.repeats,
            "points": entries}


def print_table(points):
    print(f"{'dtype':>6} {'batch':>7} {'ranks':>6} {'workers':>8} {'best':>10} {'median':>10} {'computing':>10}   docs/s")
    for point in points:
        rate, compute = point.get("docs_per_second"), point.get("compute_docs_per_second")
        figures = f"{rate['best']:10.1f} {rate['median']:10.1f}" if rate else f"{'-':>10} {'-':>10}"
        figures += f" {compute['best']:10.1f}" if compute else f" {'-':>10}"
        print(f"{point['dtype']:>6} {point['batch_tokens']:>7} {point['ranks']:6d} {point['workers']:8d} {figures}"
              + ("   failed: " + point["error"].splitlines()[0] if "error" in point else ""))


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    values = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    parser.add_argument("--job", choices=("encode", "infer", "sample", "train"), default="encode")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-i", "--input", required=True)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="sweep.json, sweep.svg and a file a point")
    parser.add_argument("--ranks", default=["1"], **values)
    parser.add_argument("--workers", default=["1"], help="worker threads a rank", **values)
    parser.add_argument("--dtypes", default=["auto"], **values)
    parser.add_argument("--batch-tokens", default=["auto"], help="of sample: pictures a batch", **values)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, help="the first N documents only")
    parser.add_argument("--launcher", choices=("muster", "mpirun"), default="muster")
    parser.add_argument("--slurm", nargs="?", const="", metavar="OPTIONS", help="run as one array job; =OPTIONS go to sbatch")
    parser.add_argument("--flags", default="", help="more flags for every run: --flags='--A --B'")
    parser.add_argument("--muster", default=str(ROOT / "build" / "muster"))
    parser.add_argument("--fresh", action="store_true", help="forget the points that are done")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)  # what a task of the array does
    return parser.parse_args(argv)


def main(argv):
    arguments = parse(argv)
    folder = pathlib.Path(arguments.output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    points = points_of(arguments)
    if arguments.point is not None:
        run_here(arguments, points, [arguments.point], folder)
        return 0
    if arguments.fresh:
        for index in range(len(points)):
            point_file(folder, index).unlink(missing_ok=True)
    done = [len(runs_so_far(folder, index, point, arguments)) == arguments.repeats for index, point in enumerate(points)]
    wanted = [index for index in range(len(points)) if not done[index]]
    if wanted and arguments.slurm is not None:
        run_on_slurm(arguments, points, wanted, folder)
    elif wanted:
        run_here(arguments, points, wanted, folder)
    result = result_of(arguments, points, folder)
    write_json(folder / "sweep.json", result)
    (folder / "sweep.svg").write_text(plot(result), encoding="utf-8")
    print_table(result["points"])
    print(f"wrote {folder}/sweep.json and sweep.svg")
    return 1 if any("error" in point for point in result["points"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
