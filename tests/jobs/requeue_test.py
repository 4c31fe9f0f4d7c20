#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""jobs/requeue.sh by itself, with a stand-in for scontrol: what it returns, when it requeues, what a signal does."""
import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

REQUEUE = pathlib.Path(__file__).resolve().parents[2] / "jobs" / "requeue.sh"


class Requeue(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        scontrol = self.folder / "scontrol"
        scontrol.write_text('#!/bin/sh\necho "$@" >>"$(dirname "$0")/calls"\n')
        scontrol.chmod(0o755)

    def start(self, command, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MUSTER_MAX"))}
        clean["PATH"] = f"{self.folder}:{clean['PATH']}"
        job = subprocess.Popen([REQUEUE, *command], env=clean | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)
        self.addCleanup(self.end, job)
        return job

    @staticmethod
    def end(job):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        job.stdout.close()

    def calls(self):
        path = self.folder / "calls"
        return path.read_text() if path.exists() else ""

    def test_exit_codes(self):
        table = [
            # the command's code, the environment, what scontrol is told, part of the output
            (0, {"SLURM_JOB_ID": "7"}, "", ""),
            (4, {"SLURM_JOB_ID": "7"}, "", ""),
            (138, {"SLURM_JOB_ID": "7"}, "", ""),
            (75, {}, "", ""),
            (75, {"SLURM_JOB_ID": "7"}, "requeue 7\n", "restart 1"),
            (75, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "3"}, "requeue 7\n", "restart 4"),
            (75, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "100"}, "", "submit it again"),
            (75, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "MUSTER_MAX_REQUEUES": "2"}, "", "MUSTER_MAX_REQUEUES"),
        ]
        for code, environment, told, said in table:
            with self.subTest(code=code, environment=environment):
                (self.folder / "calls").unlink(missing_ok=True)
                job = self.start(["sh", "-c", f"exit {code}"], **environment)
                output = job.communicate(timeout=20)[0]
                self.assertEqual(job.returncode, code, output)
                self.assertEqual(self.calls(), told)
                self.assertIn(said, output)

    def test_arguments_go_on_as_they_are(self):
        job = self.start(["printf", "%s|", "two words", "*", ""])
        self.assertEqual(job.communicate(timeout=20)[0], "two words|*||")

    def test_usr1_goes_to_the_command_and_its_code_comes_back(self):
        # The command takes its time to save: the wait goes on after the signal, and after a second one.
        saves = "import signal, sys, time; asked = []; signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))\n" \
                "print('ready', flush=True)\n" \
                "while len(asked) < 2: time.sleep(0.01)\n" \
                "time.sleep(0.3); sys.exit(75)"
        job = self.start(["python3", "-c", saves], SLURM_JOB_ID="9")
        self.assertEqual(job.stdout.readline(), "ready\n")
        for _ in range(2):
            job.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
        output = job.communicate(timeout=20)[0]
        self.assertEqual(job.returncode, 75, output)
        self.assertEqual(self.calls(), "requeue 9\n")


if __name__ == "__main__":
    unittest.main()
