"""What has to be right on a GPU before its times mean anything: the checks of bench/gpu.py, in order of their cost.

Every check returns a line for the report, raises Skipped with a reason, or raises any other error if it fails.
"""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import subprocess

# Losses of 20 steps on the GPU in f32 against the CPU's, relative.
SAME_LOSS = 1e-5
# The most that a loss in bf16 may differ over the same steps, in nats.
BF16_LOSS = 0.02


class Skipped(Exception):
    """A check that cannot run here."""


@dataclasses.dataclass
class Context:
    """Where things are, and how programs are started."""

    folder: pathlib.Path
    out: pathlib.Path
    args: object

    def program(self, name):
        path = self.folder / "bin" / name
        if not path.exists():
            raise Skipped(f"{path} is not there")
        return str(path)

    def environment(self):
        """A cache of its own, so that the first run compiles the kernels and the next ones do not."""
        env = os.environ | {"TINYGPT_CUDA_CACHE": str(self.out / "kernels"), "TINYGPT_TEST_CUDA": "1"}
        if self.args.dry_run:
            env.pop("TINYGPT_TEST_CUDA")
            env["TINYGPT_CUDA_LIBS"] = self.args.libraries or ""
        return env

    def call(self, command, seconds, given=""):
        """Runs a command on some input in a folder of its own and returns its output; an error has its last lines."""
        try:
            result = subprocess.run(
                command, cwd=self.folder, env=self.environment(), timeout=seconds, text=True, errors="replace",
                input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            shown = error.stdout or b""
            shown = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
            raise RuntimeError(f"no end after {seconds:.0f} s: {shown[-1500:]}") from error
        if result.returncode != 0:
            raise RuntimeError(f"exit code {result.returncode}: {result.stdout[-2500:]}")
        return result.stdout

    def train(self, name, device, dtype, steps, seconds, extra=()):
        """Trains the quickstart's model for some steps; returns the loss and the gradient norm of each."""
        out_dir = self.out / name
        shutil.rmtree(out_dir, ignore_errors=True)
        small = ["--n-layer", "2", "--n-head", "2", "--n-embd", "64", "--batch-size", "4", "--block-size", "32"]
        command = [
            self.program("train"), "--config-file", "config/quickstart.json", "--out-dir", str(out_dir),
            "--device", device, "--dtype", dtype, "--max-iters", str(steps), "--eval-interval", str(steps),
            *(small if self.args.dry_run else []), *extra,
        ]  # fmt: skip
        self.call(command, seconds)
        return steps_of(out_dir)


def steps_of(out_dir):
    """The losses and gradient norms in a run's metrics."""
    events = [json.loads(line) for line in (out_dir / "metrics.jsonl").read_text().splitlines()]
    return [(event["loss"], event["grad_norm"]) for event in events if event["event"] == "step"]


def run(report, context):
    """All checks, the cheapest first."""
    steps = 4 if context.args.dry_run else 20
    tests = sorted((context.folder / "tests").glob("*"))
    if not tests:
        report.check("kernels against the CPU", no_tests, 1)
    for test in tests:
        report.check(f"tests: {test.name}", lambda seconds, test=test: run_tests(context, test, seconds), 120)
    report.check("20 steps in f32 as on the CPU", lambda seconds: as_on_the_cpu(context, steps, seconds), 90)
    report.check("20 steps in bf16 near f32", lambda seconds: bf16(context, steps, seconds), 60)
    report.check("twice the same bits", lambda seconds: twice(context, steps, seconds), 60)
    report.check("the same bits without a CUDA graph", lambda seconds: without_graph(context, steps, seconds), 60)
    report.check("resuming continues with the same bits", lambda seconds: resuming(context, seconds), 90)
    report.check("compute-sanitizer memcheck", lambda seconds: sanitizer(context, "memcheck", seconds), 90)
    report.check("compute-sanitizer racecheck", lambda seconds: sanitizer(context, "racecheck", seconds), 90)


def no_tests(_seconds):
    raise Skipped("the folder has no tests")


def run_tests(context, test, seconds):
    shown = context.call([str(test), "--test-threads", "1" if context.args.dry_run else "4"], seconds)
    results = [line for line in shown.splitlines() if line.startswith("test result")]
    if not results or " 0 passed" in results[-1]:
        raise RuntimeError(f"no test ran: {shown[-500:]}")
    return results[-1]


def as_on_the_cpu(context, steps, seconds):
    cpu = context.train("cpu-f32", "cpu", "float32", steps, seconds)
    gpu = context.train("gpu-f32", "cuda", "float32", steps, seconds)
    if len(cpu) != steps or len(gpu) != steps:
        raise RuntimeError(f"{len(cpu)} and {len(gpu)} steps, not {steps}")
    losses = max(abs(a - b) / abs(a) for (a, _), (b, _) in zip(cpu, gpu))
    norms = max(abs(a - b) / abs(a) for (_, a), (_, b) in zip(cpu, gpu))
    line = f"largest relative difference: loss {losses:.1e}, gradient norm {norms:.1e}"
    if not losses <= SAME_LOSS:
        raise RuntimeError(f"{line}; losses on the CPU {cpu}, on the GPU {gpu}")
    return line


def bf16(context, steps, seconds):
    reference = steps_of(context.out / "gpu-f32")
    found = context.train("gpu-bf16", "cuda", "bfloat16", steps, seconds)
    if len(found) != steps or not all(math.isfinite(loss) for loss, _ in found):
        raise RuntimeError(f"losses {found}")
    difference = max(abs(a - b) for (a, _), (b, _) in zip(reference, found))
    line = f"largest difference of a loss {difference:.4f} nats"
    if not difference <= BF16_LOSS:
        raise RuntimeError(f"{line}; f32 {reference}, bf16 {found}")
    return line


def twice(context, steps, seconds):
    names = ["gpu-bf16-again", "gpu-bf16"]
    again = context.train(names[0], "cuda", "bfloat16", steps, seconds)
    if again != steps_of(context.out / names[1]):
        raise RuntimeError("the losses differ")
    return same_weights(*(context.out / name for name in names))


def without_graph(context, steps, seconds):
    found = context.train("gpu-no-graph", "cuda", "bfloat16", steps, seconds, ["--cuda-graph", "false"])
    if found != steps_of(context.out / "gpu-bf16"):
        raise RuntimeError("the losses differ")
    return same_weights(context.out / "gpu-no-graph", context.out / "gpu-bf16")


def same_weights(left, right):
    """Compares the weights of the last checkpoints byte by byte."""
    files = [sorted((folder / "last").glob("*.safetensors")) for folder in (left, right)]
    if not files[0] or [file.name for file in files[0]] != [file.name for file in files[1]]:
        raise RuntimeError(f"different files: {files}")
    for a, b in zip(*files):
        if a.read_bytes() != b.read_bytes():
            raise RuntimeError(f"{a.name} differs")
    return f"{len(files[0])} files of the last checkpoint are the same"


def resuming(context, seconds):
    small = ["--n-layer", "2", "--n-head", "2", "--n-embd", "64", "--batch-size", "4", "--block-size", "32"]
    command = [
        context.program("train"), "--config-file", "config/quickstart.json", "--out-dir", str(context.out / "verify"),
        "--device", "cuda", "--dtype", "bfloat16", "--verify-resume", *(small if context.args.dry_run else []),
    ]  # fmt: skip
    return context.call(command, seconds).strip().splitlines()[-1]


def sanitizer(context, tool, seconds):
    """A tiny step under NVIDIA's checker of memory accesses or of races."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if context.args.dry_run or not pathlib.Path(program).exists():
        raise Skipped("compute-sanitizer is not installed")
    shape = dict(
        n_layer=2, n_head=2, n_embd=64, block_size=64, batch_size=2, vocab_size=300, dropout=0.2, threads=1,
        device="cuda", dtype="bfloat16",
    )  # fmt: skip
    command = [program, "--tool", tool, "--error-exitcode", "9", context.program("step"), json.dumps(shape)]
    try:
        result = subprocess.run(
            command, input="2\n", capture_output=True, text=True, timeout=seconds, env=context.environment()
        )
    except subprocess.TimeoutExpired as error:
        raise Skipped(f"no end after {seconds:.0f} s") from error
    shown = result.stdout + result.stderr
    if result.returncode != 0:
        raise RuntimeError(shown[-2500:])
    return next((line for line in shown.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line), "")
