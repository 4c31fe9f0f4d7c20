#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Submits the files of jobs/ to a real Slurm and compares what they publish with plain runs of the program.

    MUSTER_PROGRAM=build/muster python3 tests/jobs/slurm_jobs_test.py build/tests/h5_digest

Slurm lives in slurm_sandbox.sh. Time limits, inputs and the model are given on sbatch's command line; the files are used as they
are. Two to three minutes, most of it the job that must still be at work when its time limit of one minute comes near. Exit code 77
with a reason where there can be no Slurm.
"""
import gzip
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
JOBS = SOURCE / "jobs"
TINY = SOURCE / "tests/phases/fixtures/tiny_encoder"
DEBTAGS = SOURCE / "configs/demo/debtags_small"
SKIP = 77

# Slurm looks at time limits every 30 seconds and sends a signal up to 30 seconds early rather than late: with 20 seconds of warning
# it comes 10 to 40 seconds after the start. The job would need this long on one worker, and has two.
PREEMPTED_SECONDS = 65

# Slurm shows a passing flag (SIGNALING, COMPLETING, ...) in the place of the state: only these are an end.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")

SANDBOX_SECONDS = 540  # below ctest's limit, so that the folder is removed in any case


class Jobs:
    """What all tests share: the folder of the sandbox, the programs, the documents."""

    def __init__(self, folder, digest_program):
        self.folder = pathlib.Path(folder) / "work"
        self.folder.mkdir()
        self.muster = os.environ["MUSTER_PROGRAM"]
        self.digest_program = digest_program
        models = pathlib.Path(os.environ.get("MUSTER_MODELS_DIR", SOURCE / "models"))
        minilm = models / "all-MiniLM-L6-v2"
        self.slow_model = minilm if minilm.exists() else TINY
        with gzip.open(SOURCE / "configs/demo/debian_2000.tsv.gz", "rt", encoding="utf-8") as lines:
            self.rows = [line.rstrip("\n").split("\t", 1) for line in lines][1:]

    def documents(self, name, count, first=0):
        """`count` documents, the sample over and over with new ids."""
        path = self.folder / name
        with open(path, "w", encoding="utf-8") as file:
            for index in range(first, first + count):
                identifier, text = self.rows[index % len(self.rows)]
                file.write(f"{identifier}/{index}\t{text}\n")
        return path

    def encode_arguments(self, model, source, out):
        return ["-m", model, "-i", source, "-o", self.folder / out, "--dtype", "fp32", "--device", "cpu"]

    def train_arguments(self, out):
        """Some hundred short steps whose result does not depend on the number of ranks."""
        return ["-m", TINY, "-i", DEBTAGS / "train/train_corpus.txt.gz", "--input-format", "tsv", "-o", self.folder / out,
                "--labels", DEBTAGS / "gold/train_doc2labels.txt.gz", "--classes", DEBTAGS / "classes.txt",
                "--dtype", "fp32", "--device", "cpu", "--max-length", "16", "--epochs", "10", "--global-batch", "16",
                "--reproducible", "--workers", "1"]

    def plain_start(self, model, source, out, *more):
        """A run without Slurm on one worker; the process."""
        return self.start_muster(out, "encode", *self.encode_arguments(model, source, out), "-n", "1", "--workers", "1", *more)

    def start_muster(self, out, *arguments):
        with open(self.folder / f"{out}.log", "w") as log:
            return subprocess.Popen([self.muster, *arguments], cwd=self.folder, stderr=log)

    def plain_wait(self, run, out, seconds=300):
        if run.wait(seconds) != 0:
            raise RuntimeError(f"{run.args} ended with {run.returncode}: {(self.folder / f'{out}.log').read_text()}")

    def plain(self, model, source, out):
        self.plain_wait(self.plain_start(model, source, out), out)

    def rate(self, model, count):
        """Documents a second of one worker while it computes."""
        self.plain(model, self.documents("rate.tsv", count), "rate")
        return count / self.metrics("rate", "compute")[0]

    def metrics(self, out, name):
        """The values of one metric: a rank and start each."""
        events = [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
        return [event["value"] for event in events if event["name"] == name]

    def world_size(self, out):
        return int(json.loads((self.folder / out / "manifest.json").read_text())["facts"]["world_size"])

    def digest(self, out):
        return subprocess.run([self.digest_program, self.folder / out / "embeddings.h5"], check=True, capture_output=True,
                              text=True).stdout.strip()

    def submit(self, options, script, *arguments, **environment):
        command = ["sbatch", "--parsable", *options, JOBS / script, *arguments]
        result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True,
                                env=os.environ | {"MUSTER": self.muster, "MUSTER_ROOT": str(SOURCE)} | environment)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {result.stderr}")
        return Job(self.folder, result.stdout.strip())


class Job:
    def __init__(self, folder, number):
        self.folder = folder
        self.number = number

    def show(self):
        """The fields of `scontrol show job`, a dictionary a task."""
        text = subprocess.run(["scontrol", "-o", "show", "job", self.number], check=True, capture_output=True, text=True).stdout
        return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in text.splitlines()]

    def wait(self, seconds=120):
        """The fields when every task has ended; a requeued job waits and has not ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            tasks = self.show()
            if all(task["JobState"] in ENDED for task in tasks):
                return tasks
            time.sleep(0.5)
        raise AssertionError(f"job {self.number} did not end within {seconds} s: {self.show()}\n{self.log()}")

    def wait_for_restart(self, seconds=120):
        deadline = time.monotonic() + seconds
        while (task := self.show()[0])["Restarts"] == "0":
            if task["JobState"] in ENDED or time.monotonic() > deadline:
                raise AssertionError(f"job {self.number} was not requeued: {task}\n{self.log()}")
            time.sleep(0.2)

    def stop_once(self, is_time):
        """As by hand: SIGUSR1, as soon as there is something that a restart can go on from."""
        deadline = time.monotonic() + 60
        while not is_time():
            if time.monotonic() > deadline or self.show()[0]["JobState"] in ENDED:
                raise AssertionError(f"job {self.number} was not to be stopped: {self.show()}\n{self.log()}")
            time.sleep(0.05)
        subprocess.run(["scancel", "--batch", "--signal=USR1", self.number], check=True)

    def update(self, change):
        subprocess.run(["scontrol", "update", f"JobId={self.number}", change], check=True)

    def log(self):
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"muster-{self.number}*.log")))


class SlurmJobs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.jobs = jobs
        count = int(PREEMPTED_SECONDS * jobs.rate(jobs.slow_model, 300))
        source = jobs.documents("many.tsv", count)
        cls.many = count
        cls.reference = jobs.plain_start(jobs.slow_model, source, "many_plain", "--batch-tokens", "1024", "--schedule", "dynamic")
        cls.preempted = jobs.submit(["--time=1", "--signal=B:USR1@20"], "encode-one-node.sbatch",
                                    *jobs.encode_arguments(jobs.slow_model, source, "many"), "--workers", "1")
        # Preempted again and again it would finish too, but not within the minutes of a test.
        cls.preempted.wait_for_restart()
        cls.preempted.update("TimeLimit=30")
        cls.few = jobs.documents("few.tsv", 600)
        jobs.plain(TINY, cls.few, "few_plain")

    @classmethod
    def tearDownClass(cls):
        cls.reference.kill()
        cls.reference.wait()

    def expect_done(self, job, starts=1, tasks=1):
        ended = job.wait()
        self.assertEqual(len(ended), tasks)
        for task in ended:
            self.assertEqual((task["JobState"], task["ExitCode"], int(task["Restarts"])), ("COMPLETED", "0:0", starts - 1), job.log())

    def expect_few(self, out, ranks):
        self.assertEqual(self.jobs.digest(out), self.jobs.digest("few_plain"))
        self.assertEqual(self.jobs.world_size(out), ranks)

    def test_every_file_is_accepted_as_it_is(self):
        for script in sorted(JOBS.glob("*.sbatch")):
            with self.subTest(script=script.name):
                result = subprocess.run(["sbatch", "--test-only", script], cwd=self.jobs.folder, capture_output=True, text=True)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_one_gpu(self):
        # The GPU is only in Slurm's books: it is asked for and allotted, and the job is told to compute on the CPU.
        job = self.jobs.submit([], "encode-one-gpu.sbatch", *self.jobs.encode_arguments(TINY, self.few, "one_gpu"))
        self.expect_done(job)
        self.assertEqual(job.show()[0]["TresPerJob"], "gres:gpu:1")
        self.expect_few("one_gpu", ranks=1)

    def test_one_node(self):
        self.expect_done(self.jobs.submit([], "encode-one-node.sbatch", *self.jobs.encode_arguments(TINY, self.few, "one_node")))
        self.expect_few("one_node", ranks=2)

    def test_the_arguments_in_the_file(self):
        # Submitted from a project folder, with nothing but the two lines of the file.
        project = self.jobs.folder
        for folder in ("build", "configs/encode", "data"):
            (project / folder).mkdir(parents=True, exist_ok=True)
        (project / "jobs").symlink_to(JOBS)
        (project / "build/muster").symlink_to(self.jobs.muster)
        (project / "data/docs.tsv").symlink_to(self.few)
        (project / "configs/encode/mpnet.yaml").write_text(f"model: {{path: {TINY}}}\nrun: {{dtype: fp32, device: cpu}}\n")
        job = self.jobs.submit([], "encode-one-node.sbatch", MUSTER="", MUSTER_ROOT="")
        self.expect_done(job)
        self.expect_few("out/encode", ranks=2)

    def test_nodes(self):
        for name, launcher in (("mpirun", ""), ("srun", "srun --mpi=pmix --kill-on-bad-exit=1")):
            with self.subTest(launcher=name):
                out = "nodes_" + name
                job = self.jobs.submit([], "encode-nodes.sbatch", *self.jobs.encode_arguments(TINY, self.few, out),
                                       MUSTER_LAUNCHER=launcher)
                self.expect_done(job)
                self.expect_few(out, ranks=4)
                logs = "".join(path.read_text() for path in (self.jobs.folder / out / "logs").iterdir())
                for host in ("sim0", "sim1"):
                    self.assertIn(host, logs)

    def test_nodes_are_stopped_and_go_on(self):
        # mpirun and srun bring the signal to both nodes.
        source = self.jobs.documents("some.tsv", self.many // 20)
        self.jobs.plain(self.jobs.slow_model, source, "some_plain")
        for name, launcher in (("mpirun", ""), ("srun", "srun --mpi=pmix --kill-on-bad-exit=1")):
            with self.subTest(launcher=name):
                out = "stopped_" + name
                job = self.jobs.submit([], "encode-nodes.sbatch", *self.jobs.encode_arguments(self.jobs.slow_model, source, out),
                                       "--workers", "1", "--set", "run.commit_interval=50ms", MUSTER_LAUNCHER=launcher)
                journals = (self.jobs.folder / out / ".run").glob
                job.stop_once(lambda: any(path.stat().st_size > 0 for path in journals("journal_*")))
                self.expect_done(job, starts=2)
                self.assertEqual(self.jobs.digest(out), self.jobs.digest("some_plain"))

    def test_training_is_stopped_and_goes_on(self):
        plain = self.jobs.start_muster("train_plain", "train", *self.jobs.train_arguments("train_plain"), "-n", "1")
        job = self.jobs.submit([], "train-one-node.sbatch", *self.jobs.train_arguments("train"))
        checkpoints = self.jobs.folder / "train/.run/checkpoints"
        job.stop_once(lambda: any(checkpoints.glob("step_*[0-9]")))
        self.expect_done(job, starts=2)
        self.assertRegex(job.log(), "resuming behind step [0-9]+ of")
        self.jobs.plain_wait(plain, "train_plain")
        models = [(self.jobs.folder / out / "model/model.safetensors").read_bytes() for out in ("train", "train_plain")]
        self.assertTrue(models[0] == models[1], "the models differ")
        self.assertEqual([self.jobs.world_size(out) for out in ("train", "train_plain")], [2, 1])

    def test_array(self):
        parts = [self.jobs.documents(f"part{part}.tsv", 200, first=200 * part) for part in range(3)]
        for part, source in enumerate(parts):
            self.jobs.plain(TINY, source, f"part{part}_plain")
        inputs = self.jobs.folder / "inputs.txt"
        inputs.write_text("".join(f"{part}\n" for part in parts))
        arguments = [inputs, self.jobs.folder / "parts", "-m", TINY, "--dtype", "fp32"]
        self.expect_done(self.jobs.submit(["--array=1-3%2"], "encode-array.sbatch", *arguments), tasks=3)
        for part in range(3):
            self.assertEqual(self.jobs.digest(f"parts/{part + 1:05d}"), self.jobs.digest(f"part{part}_plain"))

        beyond = self.jobs.submit(["--array=4"], "encode-array.sbatch", *arguments)
        self.assertEqual([(task["JobState"], task["ExitCode"]) for task in beyond.wait()], [("FAILED", "2:0")])
        self.assertIn("submit with --array=1-3", beyond.log())

    def test_sweep_as_an_array(self):
        command = [sys.executable, SOURCE / "benchmarks/sweep.py", "--slurm=--time=5", "--muster", self.jobs.muster, "-m", TINY,
                   "-i", self.few, "-o", self.jobs.folder / "sweep", "--ranks", "1,2", "--dtypes", "fp32", "--repeats", "1"]
        outcome = subprocess.run(command, cwd=self.jobs.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        points = json.loads((self.jobs.folder / "sweep/sweep.json").read_text())["points"]
        self.assertEqual([(point["ranks"], len(point["runs"])) for point in points], [(1, 1), (2, 1)])
        self.assertTrue(all(point["host"] in ("sim0", "sim1") for point in points), points)

    def test_preempted_by_its_time_limit(self):
        # Started and requeued before the others, see setUpClass.
        self.expect_done(self.preempted, starts=2)
        log = self.preempted.log()
        self.assertIn("back into the queue (restart 1)", log)
        saved = re.search(r"resuming: (\d+) of (\d+) documents are done", log)
        self.assertTrue(saved and 0 < int(saved[1]) < int(saved[2]) == self.many, log)
        self.assertEqual(sum(self.jobs.metrics("many", "items")), self.many, "nothing is lost and nothing is done twice")
        self.jobs.plain_wait(self.reference, "many_plain")
        self.assertEqual(self.jobs.digest("many"), self.jobs.digest("many_plain"))


def outside(digest_program):
    """Runs this script again inside the sandbox, whose end is the end of everything in it."""
    with tempfile.TemporaryDirectory(prefix="muster_slurm_") as folder:
        command = [HERE / "slurm_sandbox.sh", folder, sys.executable, __file__, digest_program, folder, *sys.argv[2:]]
        sandbox = subprocess.Popen(command)
        signal.signal(signal.SIGTERM, lambda *_: sandbox.kill())
        try:
            return sandbox.wait(SANDBOX_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"stopped after {SANDBOX_SECONDS} s", file=sys.stderr)
            return 1
        finally:
            sandbox.kill()
            sandbox.wait()


if __name__ == "__main__":
    if len(sys.argv) < 3 or not pathlib.Path(sys.argv[2]).is_dir():
        sys.exit(outside(sys.argv[1]))
    jobs = Jobs(sys.argv[2], sys.argv[1])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
