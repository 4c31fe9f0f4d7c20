#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/sweep.py with a stand-in for muster that takes a known time, and stand-ins for mpirun and sbatch: the points, what is
kept between starts, the JSON, the plot."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

SWEEP = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "sweep.py"
SVG = "{http://www.w3.org/2000/svg}"

# Takes 200 ms / threads and publishes 100 documents, or trains on 90 of them for two epochs and 3 steps; fp16 is refused; every call leaves a line in `calls`.
MUSTER = """#!/usr/bin/env python3
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("command")
for flag in ("-m", "-i", "-o", "-n", "--dtype", "--workers", "--batch-tokens", "--limit", "--global-batch"):
    parser.add_argument(flag)
flags = parser.parse_args()
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if flags.dtype == "fp16":
    print("muster: fp16 is not for CPUs", file=sys.stderr)
    sys.exit(2)
ranks = int(flags.n or os.environ["RANKS"])
time.sleep(0.2 / ranks / int(flags.workers))
out = pathlib.Path(flags.o)
out.mkdir()
facts = {"rows": "100"}
if flags.command == "train":
    facts |= {"training_documents": "90", "global_batch": flags.global_batch, "epochs": "2", "steps": "15"}
(out / "manifest.json").write_text(json.dumps({"facts": facts, "identity": {"note.build": "0.1.0 abc"}}))
(out / "metrics.jsonl").write_text("".join(
    json.dumps({"rank": rank, "name": name, "value": 0.1 + rank}) + "\\n" for rank in range(ranks) for name in ("busy", "compute")))
"""
MPIRUN = """#!/bin/sh
[ "$1" = -n ] || exit 9
RANKS=$2; export RANKS
while [ "${1##*/}" != muster ]; do shift; done
exec "$@"
"""
# Runs the tasks one after another; the last argument is the script. Task $LOST gets lost.
SBATCH = """#!/bin/bash
script="${@: -1}"
echo "sbatch $*" >>"$CALLS"
for task in $(sed -n 's/^#SBATCH --array=//p' "$script" | tr , ' '); do
  [ "$task" = "${LOST:-}" ] || SLURM_ARRAY_TASK_ID=$task bash "$script" || exit 1
done
"""


class Sweep(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        for name, text in (("muster", MUSTER), ("mpirun", MPIRUN), ("sbatch", SBATCH)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)

    def sweep(self, *arguments, code=0, **environment):
        command = [sys.executable, SWEEP, "-m", "models/some", "-i", "docs.tsv", "-o", self.folder / "out",
                   "--muster", self.folder / "muster", *arguments]
        variables = os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self.folder / "calls")} | environment
        outcome = subprocess.run(command, env=variables, capture_output=True, text=True)
        self.assertEqual(outcome.returncode, code, outcome.stdout + outcome.stderr)
        return json.loads((self.folder / "out/sweep.json").read_text())

    def calls(self):
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def check_scaling(self, result):
        """Four points of 1, 2, 2 and 4 threads, faster with every thread and never faster than the stand-in can be."""
        settings = [(point["ranks"], point["workers"]) for point in result["points"]]
        self.assertEqual(settings, [(1, 1), (1, 2), (2, 1), (2, 2)])
        for point in result["points"]:
            self.assertEqual(len(point["runs"]), 2)
            rate, threads = point["docs_per_second"], point["ranks"] * point["workers"]
            rates = [run["documents"] / run["seconds"] for run in point["runs"]]
            self.assertAlmostEqual(rate["best"], max(rates))
            self.assertAlmostEqual(rate["median"], sum(rates) / 2)
            self.assertLess(rate["best"], 500 * threads)
            self.assertAlmostEqual(point["compute_docs_per_second"]["best"], 100 / (0.1 + point["ranks"] - 1))  # of the slowest rank
        self.assertGreater(result["points"][3]["docs_per_second"]["best"], result["points"][0]["docs_per_second"]["best"])

    def test_json_and_plot(self):
        result = self.sweep("--ranks", "1,2", "--workers", "1,2", "--dtypes", "fp32", "--batch-tokens", "4096", "--repeats", "2",
                            "--limit", "7")
        self.check_scaling(result)
        calls = self.calls()
        self.assertEqual(len(calls), 8)
        self.assertEqual(calls[:4], calls[4:], "round after round")
        for part in ("encode -m models/some -i docs.tsv", "--dtype fp32", "--batch-tokens 4096", "--limit 7", "-n 1", "--workers 1"):
            self.assertIn(part, calls[0])
        self.assertEqual((result["build"], result["documents"], result["model"]), ("0.1.0 abc", 100, "some"))
        self.assertTrue(result["machine"]["cpu"] and result["machine"]["cores"] and "sweep.py" in result["command"])
        self.assertFalse(list((self.folder / "out").glob("out_*")), "results of the runs are removed")

        picture = xml.parse(self.folder / "out/sweep.svg").getroot()
        _, _, width, height = map(float, picture.get("viewBox").split())
        texts = [node.text for node in picture.iter(SVG + "text")]
        for text in ("threads (ranks × workers)", "documents per second", "fp32", "1×2", "2×1", "0", "4"):
            self.assertIn(text, texts)
        points = [(float(node.get("cx")), float(node.get("cy"))) for node in picture.iter(SVG + "circle")]
        self.assertEqual(len(points), 4)
        self.assertTrue(all(0 < x < width and 0 < y < height for x, y in points))
        self.assertLess(points[0][0], points[3][0])
        self.assertGreater(points[0][1], points[3][1], "faster is higher")
        ideal = [node for node in picture.iter(SVG + "line") if node.get("class") == "ideal"]
        self.assertEqual(len(ideal), 1)
        (x1, y1), (x2, y2) = ((float(ideal[0].get("x" + end)), float(ideal[0].get("y" + end))) for end in "12")
        slope = (y2 - y1) / (x2 - x1)
        self.assertAlmostEqual(y1 + slope * (points[0][0] - x1), points[0][1], delta=0.5, msg="ideal goes through the first point")

    def test_what_is_done_is_kept(self):
        self.sweep("--dtypes", "fp32", "--repeats", "1")
        self.assertEqual(len(self.calls()), 1)
        self.sweep("--dtypes", "fp32", "--repeats", "1")
        self.assertEqual(len(self.calls()), 0)
        self.sweep("--dtypes", "fp32", "--repeats", "3")
        self.assertEqual(len(self.calls()), 2, "two more of the same point")
        self.sweep("--dtypes", "bf16", "--repeats", "1")
        self.assertEqual(len(self.calls()), 1, "another point in its place")
        self.sweep("--dtypes", "bf16", "--repeats", "1", "--fresh")
        self.assertEqual(len(self.calls()), 1)

    def test_a_failing_point_does_not_end_the_sweep(self):
        result = self.sweep("--dtypes", "fp16,fp32", "--repeats", "1", code=1)
        self.assertIn("exit code 2: muster: fp16 is not for CPUs", result["points"][0]["error"])
        self.assertNotIn("docs_per_second", result["points"][0])
        self.assertNotIn("error", result["points"][1])
        self.calls()
        self.sweep("--dtypes", "fp16,fp32", "--repeats", "1", code=1)
        self.assertEqual(len(self.calls()), 1, "only the failed one again")

    def test_mpirun(self):
        result = self.sweep("--ranks", "1,2", "--workers", "1,2", "--repeats", "2", "--launcher", "mpirun")
        self.check_scaling(result)
        self.assertNotIn(" -n ", self.calls()[0])
        self.assertIn("mpirun -n 2 --oversubscribe", result["points"][2]["command"])

    def test_training(self):
        result = self.sweep("--job", "train", "--ranks", "1,2", "--repeats", "1", "--flags=--global-batch 16")
        for call, point in zip(self.calls(), result["points"], strict=True):
            self.assertTrue(call.startswith("train -m models/some"), call)
            self.assertIn("--global-batch 16", call)
            self.assertEqual([run["documents"] for run in point["runs"]], [2 * 90 + 3 * 16], "2 epochs of 6 steps, and 3 steps")
        self.sweep("--job", "encode", "--ranks", "1,2", "--repeats", "1", "--flags=--global-batch 16")
        self.assertEqual(len(self.calls()), 2, "points of another job are not taken")

    def test_slurm_array(self):
        result = self.sweep("--ranks", "1,2", "--workers", "1,2", "--repeats", "2", "--slurm=--partition=cpu -t 5")
        self.check_scaling(result)
        submissions = [call for call in self.calls() if call.startswith("sbatch")]
        self.assertEqual(len(submissions), 1)
        self.assertIn("--wait --partition=cpu -t 5", submissions[0])
        script = (self.folder / "out/sweep.sbatch").read_text()
        for line in ("--array=0,1,2,3", "--ntasks=2", "--cpus-per-task=2", "--nodes=1"):
            self.assertIn(f"#SBATCH {line}\n", script)

    def test_a_lost_task_of_the_array(self):
        result = self.sweep("--ranks", "1,2", "--repeats", "1", "--slurm", code=1, LOST="1")
        self.assertIn("left no result", result["points"][1]["error"])
        self.calls()
        self.sweep("--ranks", "1,2", "--repeats", "1", "--slurm")
        self.assertIn("#SBATCH --array=1\n", (self.folder / "out/sweep.sbatch").read_text())

    def test_axes(self):
        spec = importlib.util.spec_from_file_location("sweep", SWEEP)
        sweep = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sweep)
        for largest, steps, expected in ((6, 6, 1), (7, 6, 2), (0.9, 6, 0.2), (1234, 6, 500), (64, 10, 10)):
            self.assertAlmostEqual(sweep.nice_step(largest, steps), expected, msg=f"{largest} in {steps}")
        names = [f"fp32, {budget} tokens a batch" for budget in range(1000, 5000, 1000)]
        rows = {at_y for _, at_x, at_y in sweep.legend_of(names) if at_x + 50 < sweep.WIDTH}
        self.assertEqual(len(rows), 2, "a long legend takes a second row")
        nothing = {"model": "a<b", "documents": 0, "machine": {"cpu": "x & y"}, "points": [{"batch_tokens": "auto"}]}
        self.assertIn("a<b: 0 documents on x & y", xml.fromstring(sweep.plot(nothing)).find(SVG + "title").text)


if __name__ == "__main__":
    unittest.main()
