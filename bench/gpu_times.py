"""Times of training steps on a GPU and on the CPU, TinyGPT and PyTorch in turns: the tables of bench/gpu.py."""

import json
import statistics
import subprocess
import sys

import steps
from turns import Program


def shape(*sizes, dtype):
    return steps.shape(*sizes) | {"dtype": dtype}


# With the ratio that is aimed at least: PyTorch's time over ours.
SHAPES = {
    "L6 C384 T256 B64 V30000 dropout 0.2, bf16": (shape(6, 6, 384, 256, 64, 30_000, 0.2, dtype="bfloat16"), 1.15),
    "GPT-2 124M T1024 B16, bf16": (shape(12, 12, 768, 1024, 16, 50_257, 0.0, dtype="bfloat16"), 1.0),
    "GPT-2 124M T1024 B8, bf16": (shape(12, 12, 768, 1024, 8, 50_257, 0.0, dtype="bfloat16"), 1.15),
    "L6 C384 T256 B64 V30000 dropout 0.2, TF32": (shape(6, 6, 384, 256, 64, 30_000, 0.2, dtype="tf32"), 1.0),
    "L3 C160 T128 B16 V3072, bf16": (shape(3, 5, 160, 128, 16, 3_072, 0.0, dtype="bfloat16"), 2.0),
}
TINY = shape(2, 2, 32, 32, 2, 300, 0.2, dtype="bfloat16")
# The CPU's shapes: steps of PyTorch without torch.compile, as in bench/steps.py.
CPU_SHAPE = shape(6, 6, 384, 256, 8, 258, 0.0, dtype="float32")
CPU_THREADS = [1, 2, 4, 8, 16]

TURNS = 7
# PyTorch compiles for a minute before its first step.
SECONDS_OF_A_SHAPE = 75


def run_gpu(report, context):
    """Every shape: ours and PyTorch's steps in turns."""
    for name, (given, at_least) in SHAPES.items():
        if context.args.shapes and name not in context.args.shapes:
            continue
        row = {"name": name, "at_least": at_least}
        if report.seconds_left() < SECONDS_OF_A_SHAPE and not context.args.dry_run:
            report.add("times", row | {"error": "skipped: no time left"})
            continue
        given = (TINY | {"dtype": given["dtype"]} if context.args.dry_run else given) | {"device": "cuda", "threads": 4}
        try:
            report.add("times", row | measure(given, context, TURNS, compiled=True))
        except (SystemExit, OSError, ValueError, KeyError) as error:
            report.add("times", row | {"error": str(error)})


def run_profile(report, context):
    """Where the time of a step goes, kernel by kernel."""
    for name, (given, _) in SHAPES.items():
        if context.args.shapes and name not in context.args.shapes:
            continue
        if report.seconds_left() < 15 and not context.args.dry_run:
            report.add("profiles", {"name": name, "error": "skipped: no time left"})
            continue
        given = (TINY | {"dtype": given["dtype"]} if context.args.dry_run else given) | {"device": "cuda", "threads": 4}
        try:
            report.add("profiles", {"name": name} | profile(given | {"profile": True}, context))
        except (SystemExit, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            report.add("profiles", {"name": name, "error": str(error)})


def profile(given, context):
    """The kernels of the second line of steps: the first one compiles and chooses algorithms."""
    n_steps = 2 if context.args.dry_run else 10
    command = [context.program("step"), json.dumps(given)]
    lines = context.call(command, 60, f"{n_steps}\n{n_steps}\n").strip().splitlines()
    first, second = (json.loads(line) for line in lines[-2:])
    before = {kernel["name"]: kernel for kernel in first["profile"]["kernels"]}
    rows = []
    for kernel in second["profile"]["kernels"]:
        seen = before.get(kernel["name"], {})
        counted = {key: kernel[key] - seen.get(key, 0) for key in ("launches", "seconds", "bytes", "flops")}
        rows.append({"name": kernel["name"]} | {key: value / n_steps for key, value in counted.items()})
    rows.sort(key=lambda row: -row["seconds"])
    ceilings = {key: second["profile"][key] for key in ("bytes_per_second", "flops_per_second")}
    return {"step_ms": 1e3 * statistics.median(second["seconds"]), "kernels": rows} | ceilings


def run_cpu(report, context):
    """One shape at several numbers of threads."""
    cores = report.parts["machine"]["cores"]
    for threads in [1] if context.args.dry_run else [n for n in CPU_THREADS if n <= cores]:
        row = {"threads": threads}
        if report.seconds_left() < 15:
            report.add("cpu", row | {"error": "skipped: no time left"})
            continue
        given = (TINY | {"dtype": "float32"} if context.args.dry_run else CPU_SHAPE) | {"threads": threads}
        # Both sides' default, and an unknown key for a program of an earlier version.
        del given["dtype"]
        try:
            report.add("cpu", row | measure(given, context, 5, compiled=False))
        except (SystemExit, OSError, ValueError, KeyError) as error:
            report.add("cpu", row | {"error": str(error)})


def measure(given, context, turns, compiled):
    """Seconds per step of both sides, as medians over turns, their ratio turn by turn, and GPU memory."""
    flags = ["--compile"] if compiled and not context.args.dry_run else []
    commands = {
        "ours": [context.program("step"), json.dumps(given)],
        "torch": [context.args.python, str(steps.TORCH_STEP), *flags, json.dumps(given)],
    }
    if subprocess.run([context.args.python, "-c", "import torch"], capture_output=True).returncode != 0:
        del commands["torch"]
    elif context.args.dry_run:
        commands["torch"][-1] = json.dumps(given | {"device": "cpu"})
    programs, memory = {}, {}
    before = used_memory()
    for side, command in commands.items():
        programs[side] = Program(command, context.environment())
        # The first step compiles, and the next ones choose algorithms and record graphs.
        programs[side].turn(5, counted=False)
        after = used_memory()
        memory[side] = None if None in (before, after) else after - before
        before = after
    seconds = {side: [] for side in programs}
    for _ in range(2 if context.args.dry_run else turns):
        for side, program in programs.items():
            # A turn of about half a second, so that the clock of the GPU is the same for both.
            n_steps = max(3, min(200, round(0.5 / seconds[side][-1]))) if seconds[side] else 3
            seconds[side].append(program.turn(n_steps))
    for program in programs.values():
        program.finish()
    tokens = given["batch_size"] * given["block_size"]
    row = {
        "ms": {side: round(1e3 * statistics.median(s), 3) for side, s in seconds.items()},
        "tokens_per_second": {side: round(tokens / statistics.median(s)) for side, s in seconds.items()},
        "memory_mib": memory,
    }
    if "torch" in seconds:
        ratios = sorted(theirs / own for own, theirs in zip(seconds["ours"], seconds["torch"]))
        row["ratio"] = round(statistics.median(ratios), 3)
        row["ratio_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
    return row


def used_memory():
    """MiB in use on the first GPU, of all programs; none without nvidia-smi."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def tables(parts):
    """The lines of the report."""
    if parts["times"]:
        yield from ["", "| step | TinyGPT ms | PyTorch ms | ratio | at least | tokens/s | GPU MiB, TinyGPT / PyTorch |"]
        yield "|---|---|---|---|---|---|---|"
        for row in parts["times"]:
            if "error" in row:
                yield f"| {row['name']} | {shorten(row['error'])} | | | {row['at_least']} | | |"
                continue
            memory = " / ".join(str(row["memory_mib"].get(side) or "-") for side in ("ours", "torch"))
            yield f"| {row['name']} | {times(row)} | {row['at_least']} | {rate(row)} | {memory} |"
    for row in parts["profiles"]:
        yield from ["", f"{row['name']}, every kernel launched by itself:", ""]
        if "error" in row:
            yield shorten(row["error"])
            continue
        memory, flops = row["bytes_per_second"], row["flops_per_second"]
        yield f"| kernel | launches | ms | GB/s of {memory * 1e-9:.0f} | TFLOP/s of {flops * 1e-12:.0f} |"
        yield "|---|---|---|---|---|"
        for kernel in row["kernels"]:
            seconds = max(kernel["seconds"], 1e-9)
            rates = f"{kernel['bytes'] / seconds * 1e-9:.0f} | {kernel['flops'] / seconds * 1e-12:.1f}"
            yield f"| {kernel['name']} | {kernel['launches']:g} | {1e3 * seconds:.3f} | {rates} |"
        total = sum(kernel["seconds"] for kernel in row["kernels"])
        yield f"| all kernels | | {1e3 * total:.3f} of {row['step_ms']:.3f} | | |"
    if parts["cpu"]:
        yield from ["", "| threads | TinyGPT ms | PyTorch ms | ratio | tokens/s |", "|---|---|---|---|---|"]
        for row in parts["cpu"]:
            if "error" in row:
                yield f"| {row['threads']} | {shorten(row['error'])} | | | |"
            else:
                yield f"| {row['threads']} | {times(row)} | {rate(row)} |"


def times(row):
    ratio = "-"
    if "ratio" in row:
        low, high = row["ratio_range"]
        ratio = f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"
    return f"{row['ms']['ours']} | {row['ms'].get('torch', '-')} | {ratio}"


def rate(row):
    return f"{row['tokens_per_second']['ours']:,}"


def shorten(error):
    return " ".join(str(error).split()).replace("|", "\\|")[:120]


if __name__ == "__main__":
    sys.exit("run bench/gpu.py")
