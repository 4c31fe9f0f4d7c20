#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The GPU check of a bundle; benchmarks/gpu.sh starts it. One line a part: PASS, FAIL or SKIP, and why.

Needs nothing but Python; sentence-transformers is measured beside muster where it can be imported.
"""
import argparse
import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import gpu_models

EXIT_SKIPPED = 77
# dtype: smallest cosine and largest difference that are allowed against fp32 on the CPU.
PARITY = {"fp32": (0.99999, 1e-4), "fp16": (0.9999, 3e-3), "bf16": (0.999, 2e-2)}
BUDGETS = (4096, 16384, 65536)


class Skip(Exception):
    """A part that cannot run here, and why."""


class Failure(Exception):
    """A part that ran and was not right."""


# ---- programs ---------------------------------------------------------------------------------------------------------------


class Bench:
    """Where the bundle is, what time is left, and how its programs are started."""

    def __init__(self, arguments):
        self.bundle = pathlib.Path(arguments.bundle)
        self.output = pathlib.Path(arguments.output)
        self.scratch = pathlib.Path(arguments.scratch)
        self.rehearse = arguments.rehearse
        self.end = time.monotonic() + 60 * arguments.minutes
        self.log = open(self.output / "gpu-check.log", "w", encoding="utf-8")
        self.environment = self.program_environment()
        self.info = ""
        self.device = "cpu" if self.rehearse else "cuda"
        self.tokens = 64 if self.rehearse else 128  # of a document, when speed is measured; the small model takes no more
        self.counts = (50, 400) if self.rehearse else (4096, 100000)  # documents of a short job, and at most of a long one

    def program_environment(self):
        mpi = self.bundle / "openmpi"
        own = {
            "LD_LIBRARY_PATH": os.environ.get("MUSTER_GPU_LIBRARIES", ""),
            "PATH": f"{self.bundle / 'bin'}:{os.environ.get('PATH', '')}",
            "OPAL_PREFIX": str(self.bundle), "OPAL_BINDIR": str(self.bundle / "bin"), "OPAL_LIBDIR": str(self.bundle / "lib"),
            "OPAL_PKGLIBDIR": str(mpi / "plugins"), "OPAL_PKGDATADIR": str(mpi / "share"), "OPAL_SYSCONFDIR": str(mpi),
            "PMIX_PKGLIBDIR": str(mpi / "pmix"), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            # Sandboxed kernels refuse to copy between processes; an encode moves next to nothing.
            "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
            "OMPI_MCA_orte_tmpdir_base": str(self.scratch),
        }
        return {**os.environ, **own}

    def seconds_left(self):
        return max(0.0, self.end - time.monotonic())

    def run(self, command, limit, environment=None):
        """Output and errors as one text; Failure on another exit code than 0 and when `limit` seconds are over."""
        limit = min(limit, self.seconds_left())
        if limit < 1:
            raise Skip("no time is left (--minutes)")
        command = [str(part) for part in command]
        self.log.write("\n$ " + " ".join(command) + "\n")
        self.log.flush()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                                   env={**self.environment, **(environment or {})}, cwd=self.scratch)
        try:
            raw, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raw, _ = process.communicate()
            self.log.write(raw.decode(errors="replace"))
            raise Failure(f"{command[0]} was not done after {limit:.0f} s") from None
        text = raw.decode(errors="replace")
        self.log.write(text)
        self.log.flush()
        if process.returncode != 0:
            last = [line for line in text.splitlines() if line.strip()][-3:]
            raise Failure(f"{os.path.basename(command[0])} exited with {process.returncode}: {' / '.join(last)}")
        return text

    def python(self, source, limit):
        """Runs Python with this machine's own libraries; the last line of its output is JSON."""
        clean = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
        environment = {"LD_LIBRARY_PATH": "", **clean}
        return json.loads(self.run([sys.executable, "-c", source], limit, environment).strip().splitlines()[-1])

    def dtypes(self):
        return ("fp32",) if self.rehearse else ("fp32", "fp16", "bf16")

    def model(self, name):
        """Carried, or made on first use; None when there is none."""
        carried = self.bundle / "data" / "models" / name
        if carried.exists():
            return carried
        made = self.scratch / "models" / name
        shape = name.removesuffix("-shaped")
        if shape not in gpu_models.SHAPES:
            return None
        if not made.exists():
            gpu_models.random_model(shape, self.tokenizer(), made)
        return made

    def tokenizer(self):
        return self.model("all-MiniLM-L6-v2") or self.model("tiny_encoder")

    def encode(self, name, model, documents, seconds=240, **flags):
        """Encodes into its own folder; returns the folder."""
        out = self.scratch / "out" / name
        command = ["muster", "encode", "-m", model, "-i", documents, "-o", out, "--fresh"]
        for flag, value in {"device": self.device, **flags}.items():
            command += ["--" + flag.replace("_", "-"), value]
        self.run(command, seconds)
        return out

    def compare(self, one, other):
        return json.loads(self.run(["compare_embeddings", one / "embeddings.h5", other / "embeddings.h5"], 60))


def metrics_of(out):
    """Sums over ranks of the figures a job leaves, and its longest computing time."""
    totals, seconds = {}, 0.0
    for line in open(out / "metrics.jsonl", encoding="utf-8"):
        entry = json.loads(line)
        totals[entry["name"]] = totals.get(entry["name"], 0) + entry["value"]
        if entry["name"] == "compute":
            seconds = max(seconds, entry["value"])
    return totals, seconds


class GpuMemory(contextlib.AbstractContextManager):
    """The most memory in use on the GPU meanwhile, as nvidia-smi sees it; None without it."""

    def __init__(self):
        self.most = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.over.is_set():
            used = query_gpu("memory.used")
            if used is None:
                return
            self.most = max(self.most or 0, int(used))
            self.over.wait(0.2)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def query_gpu(what):
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"], capture_output=True,
                              text=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if lines else None


# ---- documents --------------------------------------------------------------------------------------------------------------


def real_texts(bench):
    with gzip.open(bench.bundle / "data" / "debian_2000.tsv.gz", "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t", 1)[1] for line in file]


def long_documents(bench):
    """A file of documents that all fill bench.tokens tokens: neighbours joined, each start another."""
    path = bench.scratch / "long.tsv"
    if not path.exists():
        texts = real_texts(bench)
        with open(path, "w", encoding="utf-8") as file:
            for number in range(bench.counts[1]):
                text, at = "", number * 7
                while len(text) < 9 * bench.tokens:
                    text += texts[at % len(texts)] + " "
                    at += 1 + number // len(texts)
                file.write(f"d{number}\t{text}\n")
    return path


# ---- parts ------------------------------------------------------------------------------------------------------------------


def check_program(bench):
    """muster starts, says what it sees, and encodes on the CPU."""
    bench.info = bench.run(["muster", "info"], 120)
    documents = bench.bundle / "data" / "debian_2000.tsv.gz"
    out = bench.encode("program", bench.model("tiny_encoder"), documents, device="cpu", dtype="fp32", seconds=120)
    rows = json.loads((out / "manifest.json").read_text())["facts"]["rows"]
    if rows != "2000":
        raise Failure(f"2000 documents became {rows} rows")
    seen, named = gpus_of(bench.info), query_gpu("name")
    if named and not seen:
        raise Failure(f"nvidia-smi shows {named}, but muster info sees no GPU: {line_of(bench.info, 'CUDA and NCCL')}")
    return {"gpus": len(seen)}, f"2000 documents encoded on the CPU; GPUs: {', '.join(seen) or 'none'}"


def gpus_of(info):
    return re.findall(r"^  (cuda:\d+)", info, re.MULTILINE)


def line_of(text, start):
    return next((line for line in text.splitlines() if line.startswith(start)), "")


def check_parity(bench):
    """Every dtype on the GPU against fp32 on the CPU, by the same program."""
    cases = [("tiny_encoder", 2000), ("all-MiniLM-L6-v2", 2000), ("mpnet-shaped", 400)]
    if bench.rehearse:
        cases = [("tiny_encoder", 300), ("minilm-shaped", 20)]
    figures, worst = {}, {}
    documents = bench.bundle / "data" / "debian_2000.tsv.gz"
    for name, count in cases:
        model = bench.model(name)
        if model is None:
            continue
        reference = bench.encode(f"parity-{name}", model, documents, device="cpu", dtype="fp32", limit=count)
        for dtype in bench.dtypes():
            out = bench.encode(f"parity-{name}-{dtype}", model, documents, dtype=dtype, limit=count)
            distance = bench.compare(reference, out)
            figures[f"{name} {dtype}"] = distance
            worst[dtype] = min(worst.get(dtype, 1), distance["smallest_cosine"])
            cosine, difference = PARITY[dtype]
            if distance["smallest_cosine"] < cosine or distance["largest_difference"] > difference:
                raise Failure(f"{name} in {dtype}: {distance}; allowed are cosine {cosine} and difference {difference}")
    return figures, "smallest cosine " + ", ".join(f"{dtype} {value:.6f}" for dtype, value in worst.items())


def timed_job(bench, name, model, documents, count, **flags):
    begin = time.monotonic()
    out = bench.encode(name, model, documents, max_length=bench.tokens, limit=count, **flags)
    totals, seconds = metrics_of(out)
    if totals["length"] != bench.tokens * totals["items"]:
        raise Failure(f"{totals['length']:.0f} tokens in {totals['items']:.0f} documents, not {bench.tokens} each")
    return {"items": totals["items"], "busy": totals["busy"] / totals["workers"], "compute": seconds,
            "whole": time.monotonic() - begin}


def measure(bench, name, model, documents, **flags):
    """A short job and a long one. What the long one computed more, in the time it was busy longer, is the steady rate: without
    the first use of the GPU's libraries."""
    few, most = bench.counts
    short = timed_job(bench, name, model, documents, few, **flags)
    count = int(min(most, max(4 * few, 10 * few / short["busy"])))
    with GpuMemory() as memory:
        long = timed_job(bench, name, model, documents, count, **flags)
    return {**flags, "documents": count, "gpu_memory_mib": memory.most,
            "steady_documents_per_second": round((count - few) / max(1e-9, long["busy"] - short["busy"]), 1),
            "documents_per_second": round(count / long["compute"], 1),  # reading and tokenizing counted in
            "whole_process_seconds": round(long["whole"], 2)}


def check_speed(bench):
    """Documents of 128 tokens a second: dtypes, batch budgets, one or two workers a GPU."""
    figures, said = {}, []
    documents = long_documents(bench)
    dtypes = bench.dtypes()[1:] or bench.dtypes()
    for name in ("tiny_encoder",) if bench.rehearse else ("minilm-shaped", "mpnet-shaped"):
        model = bench.model(name)

        def point(**flags):
            return measure(bench, f"speed-{name}", model, documents, **flags)

        points = [point(dtype=dtype, batch_tokens=budget) for dtype in dtypes for budget in BUDGETS]
        best = max(points, key=lambda p: p["steady_documents_per_second"])
        points.append(point(dtype=best["dtype"], batch_tokens=best["batch_tokens"], workers=2))
        best = max(points, key=lambda p: p["steady_documents_per_second"])
        figures[name] = {"best": best, "all": points}
        said.append(f"{name} {best['steady_documents_per_second']:.0f} documents/s ({best['dtype']}, {best['batch_tokens']} tokens, "
                    f"{best.get('workers', 1)} workers)")
    return figures, "; ".join(said)


PEER = r"""
import json, time, torch
from sentence_transformers import SentenceTransformer
device = {device!r}
texts = [line.split("\t", 1)[1] for line in open({documents!r}, encoding="utf-8")][:{count}]
model = SentenceTransformer({model!r}, device=device, model_kwargs={{"dtype": torch.bfloat16}})
model.max_seq_length = {tokens}
runs = {{}}
for batch in (64, 256, 1024):
    model.encode(texts[:2 * batch], batch_size=batch)
    begin = time.perf_counter()
    model.encode(texts, batch_size=batch)  # returns when the vectors are on the host
    runs[str(batch)] = len(texts) / (time.perf_counter() - begin)
print(json.dumps(runs))
"""


def check_peer(bench):
    """sentence-transformers in bf16 on the same documents and models, its best batch size."""
    try:
        bench.python("import sentence_transformers; print(1)", 120)
    except Failure:
        raise Skip("sentence-transformers cannot be imported") from None
    figures = {}
    for name, count in (("tiny_encoder", 100),) if bench.rehearse else (("minilm-shaped", 16384), ("mpnet-shaped", 8192)):
        source = PEER.format(device=bench.device, documents=str(long_documents(bench)), count=count,
                             model=str(bench.model(name)), tokens=bench.tokens)
        figures[name] = bench.python(source, 200)
    return figures, "; ".join(f"{name} {max(runs.values()):.0f} documents/s" for name, runs in figures.items())


def check_invariance(bench):
    """The same job again with other budgets and ranks. Equal bytes are promised on CPUs; on a GPU they are reported."""
    model = bench.model("tiny_encoder") if bench.rehearse else bench.tokenizer()
    count = 300 if bench.rehearse else 2000
    documents = bench.bundle / "data" / "debian_2000.tsv.gz"
    dtype = bench.dtypes()[-1]

    def job(name, **flags):
        return bench.encode("invariance-" + name, model, documents, dtype=dtype, limit=count, **flags)

    reference = job("reference", batch_tokens=16384)
    variants = {"again": {"batch_tokens": 16384}, "small batches": {"batch_tokens": 2048},
                "large batches": {"batch_tokens": 65536}, "two ranks": {"batch_tokens": 16384, "ranks": 2}}
    figures = {name: bench.compare(reference, job(name.replace(" ", "-"), **flags)) for name, flags in variants.items()}
    unlike = {name: f for name, f in figures.items() if f["equal_rows"] != f["rows"]}
    for name, distance in unlike.items():
        if bench.device == "cpu" or distance["smallest_cosine"] < 0.9999:
            raise Failure(f"{name}: {distance}")
    said = ", ".join(f"{name}: {f['equal_rows']} of {f['rows']} rows equal" for name, f in unlike.items())
    return figures, said or f"{dtype}: equal bytes over batch budgets, ranks and repetition"


# The tests of NCCL skip where there is no GPU, also with exit code 0.
def nccl_tests(bench, pattern, ranks=1, limit=150, environment=None):
    launcher = ["mpirun", "-n", ranks, "--oversubscribe", "--bind-to", "none", "-q"]
    each = ["sh", "-c", 'NCCL_HOSTID="muster-rank-$OMPI_COMM_WORLD_RANK" exec "$0" "$@"'] if ranks > 1 else []
    text = bench.run([*launcher, *each, bench.bundle / "bin" / "test_nccl_gpu", f"--gtest_filter={pattern}",
                      "--gtest_color=no"], limit, {"NCCL_DEBUG": "WARN", **(environment or {})})
    ran, skipped = len(re.findall(r"^\[       OK \]", text, re.MULTILINE)), re.findall(r"Skipped\n(.*)", text)
    if skipped:
        raise Skip(skipped[0])
    if ran == 0:
        raise Failure(f"no test matches {pattern}")
    return ran


def check_nccl(bench):
    """Every collective, type and memory on a communicator of one rank."""
    ran = nccl_tests(bench, "NcclOnGpu.*")
    return {"tests": ran}, f"{ran} tests on one rank"


def check_abort(bench):
    """A kernel that never ends: left at the deadline, and by another thread's abort. A process a test."""
    for pattern in ("NcclAbort.AKernelThatNeverEndsIsLeftAtTheDeadline", "NcclAbort.AnotherThreadAbortsAKernelThatNeverEnds"):
        nccl_tests(bench, pattern, limit=90)
    return {}, "at the deadline and by another thread"


def check_two_ranks(bench):
    """Two ranks on one GPU over sockets: NCCL takes them for two hosts."""
    sockets = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_IB_DISABLE": "1", "NCCL_NET": "Socket",
               "NCCL_SOCKET_IFNAME": "lo"}
    ran = nccl_tests(bench, "NcclOnGpu.*", ranks=2, limit=180, environment=sockets)
    nccl_tests(bench, "NcclAbort.APeerThatNeverCalls", ranks=2, limit=90, environment=sockets)
    return {"tests": ran + 1}, f"{ran} tests over sockets, and the abort of a receive that nobody answers"


# name, function, whether it needs the GPU; what matters most comes first.
PARTS = [("program", check_program, False), ("parity", check_parity, True), ("nccl", check_nccl, True),
         ("abort", check_abort, True), ("speed", check_speed, True), ("invariance", check_invariance, True),
         ("two_ranks", check_two_ranks, True), ("peer", check_peer, True)]


# ---- the whole --------------------------------------------------------------------------------------------------------------


def run_part(bench, name, check, needs_gpu):
    begin = time.monotonic()
    part = {"name": name, "needs_gpu": needs_gpu, "figures": {}}
    try:
        if needs_gpu and not bench.rehearse and not gpus_of(bench.info):
            raise Skip("muster info sees no GPU")
        part["figures"], part["said"] = check(bench)
        part["status"] = "PASS"
    except Skip as why:
        part.update(status="SKIP", said=str(why))
    except Exception as why:  # a part that breaks must not hide the others
        part.update(status="FAIL", said=f"{type(why).__name__}: {why}" if not isinstance(why, Failure) else str(why))
    part["seconds"] = round(time.monotonic() - begin, 1)
    print(f"{part['status']} {name} ({part['seconds']} s): {part['said']}", flush=True)
    return part


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--scratch", required=True, help="a folder for models, documents and results, with 2 GB free")
    parser.add_argument("--output", default="gpu-check")
    parser.add_argument("--only", help="comma-separated parts: " + ", ".join(name for name, _, _ in PARTS))
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together (default: %(default)s)")
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [name for name, _, _ in PARTS]
    unknown = set(chosen) - {name for name, _, _ in PARTS}
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    arguments.output = os.path.abspath(arguments.output)
    os.makedirs(arguments.output, exist_ok=True)

    bench = Bench(arguments)
    report = {"gpu": query_gpu("name"), "driver": query_gpu("driver_version"), "gpu_memory_mib": query_gpu("memory.total"),
              "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rehearsal": bench.rehearse,
              "bundle": (bench.bundle / "BUNDLE").read_text().splitlines(), "parts": []}
    for name, check, needs_gpu in PARTS:
        if name in chosen or name == "program":  # it finds the GPUs
            report["parts"].append(run_part(bench, name, check, needs_gpu))
            report["info"] = bench.info.splitlines()
            (bench.output / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{bench.output / 'gpu-check.json'}: GPU {report['gpu'] or 'none'}")
    statuses = [part["status"] for part in report["parts"]]
    on_gpu = [part["status"] for part in report["parts"] if part["needs_gpu"]]
    if "FAIL" in statuses:
        return 1
    return EXIT_SKIPPED if on_gpu and set(on_gpu) == {"SKIP"} else 0


if __name__ == "__main__":
    sys.exit(main())
