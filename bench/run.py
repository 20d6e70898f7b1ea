"""Measures training steps of TinyGPT and PyTorch in turn and writes the table of docs/bench.md.

    python bench/run.py                  all shapes; installs PyTorch into bench/.peers first
    python bench/run.py char c384        some of them
    python bench/run.py --python PATH    with a Python that has torch already

Both programs stay alive and take turns, A B A B ..., each turn a few steps on the same number of threads; a turn's
figure is the median of its steps, and the ratio is formed turn by turn, so that a machine that slows down slows both.
Beside the times: page faults and processor time per step, and peak memory, as the kernel counted them (Linux).
Needs Python 3.9 and cargo; nothing is imported but the standard library.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / ".peers"
TABLE = ROOT / "docs" / "bench.md"
BEGIN, END = "<!-- bench/run.py writes from here -->", "<!-- to here -->"


def shape(n_layer, n_head, n_embd, block_size, batch_size, vocab_size, dropout=0.0):
    return dict(
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        block_size=block_size,
        batch_size=batch_size,
        vocab_size=vocab_size,
        dropout=dropout,
    )


SHAPES = {
    "char": shape(4, 4, 128, 64, 12, 65),
    "c384": shape(6, 6, 384, 256, 8, 258),
    "c384-dropout": shape(6, 6, 384, 256, 8, 258, dropout=0.2),
    "c384-v30000": shape(6, 6, 384, 256, 8, 30_000),
    "124m": shape(12, 12, 768, 64, 4, 50_257),
    "t1024": shape(6, 6, 384, 1024, 2, 258),
}


class Program:
    """One side of the comparison, waiting for its turns."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.n_steps, self.faults, self.cpu_seconds = 0, 0, 0.0

    def turn(self, n_steps, counted=True):
        """Makes steps and returns the median of their seconds."""
        before = self._usage()
        print(n_steps, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} stopped with status {self.process.wait()}")
        if counted:
            after = self._usage()
            self.n_steps += n_steps
            self.faults += after[0] - before[0]
            self.cpu_seconds += after[1] - before[1]
        return statistics.median(json.loads(line)["seconds"])

    def _usage(self):
        """Page faults and processor seconds so far."""
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


def peer_python():
    """The Python of bench/.peers, made and filled on first use."""
    python = PEERS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(PEERS, with_pip=True)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", "numpy"], check=True)
    return python


def build(profile):
    """Builds our program and returns its path."""
    command = ["cargo", "build", "-p", "tinygpt-train", "--example", "step", "--profile", profile]
    messages = subprocess.run(command + ["--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    executables = (json.loads(line).get("executable") for line in messages.stdout.splitlines())
    return [path for path in executables if path][-1]


def measure(name, ours, peer, threads, turns):
    """Lets both sides take turns on one shape; returns the row of the table."""
    given = json.dumps(SHAPES[name] | {"threads": threads})
    sides = [Program([*ours, given]), Program([*peer, given])]
    for side in sides:
        side.turn(2, counted=False)
    seconds = [[], []]
    for turn in range(turns):
        for side, program in enumerate(sides):
            # A turn of about a second, so that both meet the same machine.
            n_steps = max(2, min(200, round(1.0 / seconds[side][-1]))) if seconds[side] else 2
            seconds[side].append(program.turn(n_steps))
        print(f"{name} {turn + 1}/{turns}: {seconds[0][-1]:.4f} s, {seconds[1][-1]:.4f} s", file=sys.stderr)
    peaks = [program.finish() for program in sides]
    tokens = SHAPES[name]["batch_size"] * SHAPES[name]["block_size"]
    ratios = sorted(theirs / own for own, theirs in zip(*seconds))
    per_second = [tokens / statistics.median(s) for s in seconds]
    faults = [round(p.faults / p.n_steps) for p in sides]
    cpu = [1000 * p.cpu_seconds / p.n_steps for p in sides]
    return statistics.median(ratios), (
        f"| {name} | {per_second[0]:,.0f} | {per_second[1]:,.0f} | **{statistics.median(ratios):.2f}** "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {cpu[0]:.1f} / {cpu[1]:.1f} | {faults[0]} / {faults[1]} "
        f"| {peaks[0]:,.0f} / {peaks[1]:,.0f} |"
    )


def machine(python, args):
    """What the figures depend on, in a sentence."""
    model = platform.processor() or platform.machine()
    try:
        cpu = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in cpu if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    version = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{datetime.date.today()}: {model}, {os.cpu_count()} cores, {platform.system()}; {args.threads} threads, profile "
        f"`{args.profile}`, {rustc.stdout.strip()}; PyTorch {version.stdout.strip()} eager; {args.turns} turns each; "
        f"load before the start {load:.1f}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", help=", ".join(SHAPES))
    parser.add_argument("--python", help="a Python with torch, instead of bench/.peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--profile", default="dev", help="cargo profile; dev is what `cargo run` uses")
    parser.add_argument("--print", action="store_true", help="leave docs/bench.md as it is")
    args = parser.parse_args()
    unknown = set(args.shapes) - set(SHAPES)
    if unknown:
        parser.error(f"unknown shape {', '.join(sorted(unknown))}, expected {', '.join(SHAPES)}")
    python = args.python or peer_python()
    ours, peer = [build(args.profile)], [python, ROOT / "bench" / "torch_step.py"]
    lines = [
        machine(python, args),
        "",
        "| shape | TinyGPT, tokens/s | PyTorch, tokens/s | ratio | ratios of the turns | CPU ms per step "
        "| page faults per step | peak memory, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for name in args.shapes or SHAPES:
        ratio, row = measure(name, ours, peer, args.threads, args.turns)
        ratios.append(ratio)
        lines.append(row)
    lines += ["", f"Geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}."]
    table = "\n".join(lines)
    print(table)
    if not args.print:
        before, rest = TABLE.read_text().split(BEGIN)
        TABLE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
