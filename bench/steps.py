"""Whole training steps of TinyGPT and PyTorch: zeroed gradients, forward, backward, clipping, AdamW.

Also measured: page faults and CPU time per step, and peak memory, as the kernel counted them (Linux). With
--compile a third program takes its turns, PyTorch under torch.compile, and the ratio is formed with the faster of the
two. Shapes that end in -avx2 hold both sides to AVX2, as on most laptops.
"""

import json
import pathlib
import statistics
import sys

from turns import Program

NAME = "steps"
PEERS = ["torch", "numpy"]
TORCH_STEP = pathlib.Path(__file__).resolve().parent / "torch_step.py"


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
    "c384-avx2": shape(6, 6, 384, 256, 8, 258),
}

# Limits a side to AVX2: TinyGPT's example reads the first, PyTorch and its matrix products the others.
AVX2 = {
    "TINYGPT_SIMD": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def add_arguments(parser):
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, help="only some shapes")
    parser.add_argument("--compile", action="store_true", help="also measure PyTorch with torch.compile")


def measure(name, commands, context):
    """Measures the sides in alternation on one shape; returns the ratio and the row of the table."""
    given = json.dumps(SHAPES[name] | {"threads": context.args.threads})
    env = AVX2 if name.endswith("-avx2") else None
    sides = [Program([*command, given], env) for command in commands]
    for side in sides:
        side.turn(2, counted=False)
    seconds = [[] for _ in sides]
    for turn in range(context.args.turns):
        for side, program in enumerate(sides):
            # A turn of about a second, so that the machine is the same for both.
            n_steps = max(2, min(200, round(1.0 / seconds[side][-1]))) if seconds[side] else 2
            seconds[side].append(program.turn(n_steps))
        latest = ", ".join(f"{s[-1]:.4f} s" for s in seconds)
        print(f"{name} {turn + 1}/{context.args.turns}: {latest}", file=sys.stderr)
    peaks = [program.finish() for program in sides]
    return row(name, sides, seconds, peaks)


def row(name, sides, seconds, peaks):
    tokens = SHAPES[name]["batch_size"] * SHAPES[name]["block_size"]
    fastest = min(range(1, len(sides)), key=lambda side: statistics.median(seconds[side]))
    ratios = sorted(theirs / own for own, theirs in zip(seconds[0], seconds[fastest]))
    ratio = statistics.median(ratios)
    per_second = " | ".join(f"{tokens / statistics.median(s):,.0f}" for s in seconds)
    cpu = " / ".join(f"{1000 * p.cpu_seconds / p.n_pieces:.1f}" for p in sides)
    faults = " / ".join(f"{round(p.faults / p.n_pieces)}" for p in sides)
    memory = " / ".join(f"{peak:,.0f}" for peak in peaks)
    return ratio, (
        f"| {name} | {per_second} | **{ratio:.2f}** | {ratios[0]:.2f} to {ratios[-1]:.2f} | {cpu} | {faults} "
        f"| {memory} |"
    )


def run(context):
    peer = [context.python, TORCH_STEP]
    commands = [[context.build("step")], peer]
    columns = ["shape", "TinyGPT, tokens/s", "PyTorch, tokens/s"]
    if context.args.compile:
        commands.append([*peer, "--compile"])
        columns.append("PyTorch compiled, tokens/s")
    columns += ["ratio", "ratios of the turns", "CPU ms per step", "page faults per step", "peak memory, MiB"]
    lines = [context.machine(), "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    ratios, context.complete = [], not context.args.shapes
    for name in context.args.shapes or SHAPES:
        ratio, line = measure(name, commands, context)
        lines.append(line)
        if not name.endswith("-avx2"):
            ratios.append(ratio)
    if ratios:
        mean = statistics.geometric_mean(ratios)
        lines += ["", f"Geometric mean of the ratios at full instruction set: {mean:.2f}."]
    return lines
