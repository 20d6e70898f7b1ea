"""Programs that keep running and alternate: how every section measures.

A program reads a line that says how much to do and answers with a line of JSON that holds `seconds`, one number for
each piece. Turns go A B A B ..., and ratios are formed turn by turn, so that a machine that slows down slows both.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def build(name, profile, kind="example"):
    """Builds an example, or with kind "bin" a program, of TinyGPT and returns its path.

    The whole workspace is named since cargo would otherwise choose features for one crate alone and compile the
    dependencies again.
    """
    command = ["cargo", "build", "--workspace", f"--{kind}", name, "--profile", profile, "--message-format=json"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in messages.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    sys.exit(f"cargo built no {kind} {name}")


class Program:
    """One side of a comparison, waiting for its turns."""

    def __init__(self, command, env=None):
        environment = os.environ | (env or {})
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.n_pieces, self.faults, self.cpu_seconds = 0, 0, 0.0

    def ask(self, amount):
        """Sends an amount of work to the program and returns its answer."""
        print(amount, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} stopped with status {self.process.wait()}")
        return json.loads(line)

    def turn(self, amount, counted=True):
        """Takes a turn and returns the median of the seconds of its pieces."""
        before = self._usage()
        seconds = self.ask(amount)["seconds"]
        if counted:
            after = self._usage()
            self.n_pieces += len(seconds)
            self.faults += after[0] - before[0]
            self.cpu_seconds += after[1] - before[1]
        return statistics.median(seconds)

    def _usage(self):
        """Page faults and CPU seconds so far."""
        try:
            stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return 0, 0.0
        fields = stat.rpartition(")")[2].split()
        faults = int(fields[7]) + int(fields[9])
        return faults, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self):
        """Ends the program; returns its peak memory in MiB."""
        peak = float("nan")
        try:
            for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1]) / 1024
        except OSError:
            pass
        self.process.stdin.close()
        self.process.wait()
        return peak
