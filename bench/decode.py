"""Generation: one token at a time and llama.cpp, several samples at once and transformers, and the time to the first token.

All run the same random weights in f32 (decode_model.py makes them, into bench/.peers/models). Each side runs at the
number of threads that suits it best, 1 or --threads. Greedy ids are compared with llama.cpp's; where they part,
transformers in f64 says who is right.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import peers
from turns import Program

NAME = "decode"
PEERS = ["torch", "numpy", "transformers", "safetensors", "gguf", "llama-cpp-python"]
HERE = pathlib.Path(__file__).resolve().parent
MODELS = peers.FOLDER / "models"
N_SAMPLES = 10

# With the number of tokens of a turn.
SHAPES = {
    "c384-v30000": (dict(n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=30_000), 200, 60),
    "124m": (dict(n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50_257), 50, 40),
}
PROMPT = [(i * 2_654_435_761 >> 7) % 5000 for i in range(1, 17)]


def add_arguments(parser):
    parser.add_argument("--models", nargs="+", choices=SHAPES, help="only some models")


def model(name, context):
    """The folder with the weights, created on first use."""
    folder = MODELS / name
    if not (folder / "model.gguf").exists():
        print(f"creating {folder}", file=sys.stderr)
        subprocess.run([context.python, HERE / "decode_model.py", json.dumps(SHAPES[name][0]), folder], check=True)
    return folder


def at_best_threads(start, n_tokens, threads):
    """The faster program of those with one thread and with all threads, warmed up."""
    programs = [start(n) for n in sorted({1, threads})]
    for program in programs:
        program.turn(n_tokens, counted=False)
    seconds = [program.turn(n_tokens, counted=False) for program in programs]
    best = programs.pop(seconds.index(min(seconds)))
    for program in programs:
        program.finish()
    return best


def compare(label, sides, n_tokens, per_token, turns):
    """Measures two sides in alternation; returns all cells of a row but the first."""
    seconds = [[], []]
    for turn in range(turns):
        for side, program in enumerate(sides):
            seconds[side].append(program.turn(n_tokens))
        print(f"{label} {turn + 1}/{turns}: {', '.join(f'{s[-1] * 1000:.2f} ms' for s in seconds)}", file=sys.stderr)
    ratios = sorted(theirs / own for own, theirs in zip(*seconds))
    speeds = [per_token / statistics.median(s) for s in seconds]
    memory = " / ".join(f"{program.finish():,.0f}" for program in sides)
    return (
        f"{speeds[0]:,.0f} | {speeds[1]:,.0f} | **{statistics.median(ratios):.2f}** "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {memory}"
    )


def agreement(ours, theirs, folder, context):
    """How many greedy ids are equal, and which side is right at the first difference."""
    for i, (own, other) in enumerate(zip(ours["ids"], theirs["ids"])):
        if own != other:
            command = [context.python, HERE / "decode_judge.py", json.dumps(PROMPT + ours["ids"][:i]), folder]
            judged = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            right = {own: "TinyGPT", other: "llama.cpp"}.get(judged, "neither")
            return f"{i} the same, then best two {ours['gaps'][i]:.1e} apart; in f64 right: {right}"
    return f"all {len(ours['ids'])} the same"


def in_bytes(name, sample, context):
    """The same weights in 8 bits for llama.cpp, exported by TinyGPT."""
    path = model(name, context) / "model-q8_0.gguf"
    if not path.exists():
        command = [sample, "--checkpoint", path.parent, "--export", "gguf", path, "--type", "q8_0"]
        subprocess.run(command, check=True)
    return path


def one_at_a_time(name, example, context, gguf=None):
    """One sample in f32; with a GGUF file in q8_0, with 8-bit weights on both sides."""
    (shape, n_tokens, _), folder = SHAPES[name], model(name, context)
    gguf, quantize = gguf or folder / "model.gguf", gguf is not None

    def ours(threads):
        given = dict(prompt=PROMPT, samples=1, threads=threads, quantize=quantize)
        return Program([example, json.dumps(given), folder])

    def llama(threads):
        given = dict(prompt=PROMPT, block_size=shape["block_size"], threads=threads)
        return Program([context.python, HERE / "decode_llama.py", json.dumps(given), gguf])

    sides = [at_best_threads(start, n_tokens, context.args.threads) for start in (ours, llama)]
    agree = "" if quantize else f" {agreement(*(side.ask(n_tokens) for side in sides), folder, context)} |"
    return f"| {name} | {compare(name, sides, n_tokens, 1, context.args.turns)} |{agree}"


def several_at_once(name, example, context):
    (_, _, n_tokens), folder = SHAPES[name], model(name, context)

    def start(command):
        return lambda threads: Program(
            [*command, json.dumps(dict(prompt=PROMPT, samples=N_SAMPLES, threads=threads)), folder]
        )

    commands = [[example], [context.python, HERE / "decode_hf.py"]]
    sides = [at_best_threads(start(command), n_tokens, context.args.threads) for command in commands]
    return f"| {name} | {compare(f'{name} x {N_SAMPLES}', sides, n_tokens, N_SAMPLES, context.args.turns)} |"


def first_token(name, sample, context):
    """Seconds from the start of `sample` to the first byte on its terminal."""
    import pty  # Not on Windows.

    folder, seconds = model(name, context), []
    command = [sample, "--checkpoint", folder, "--start", " there was once", "--max-new-tokens", "5"]
    for _ in range(context.args.turns + 1):
        reader, terminal = pty.openpty()
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=terminal, stderr=subprocess.DEVNULL) as process:
            os.close(terminal)
            os.read(reader, 1)
            seconds.append(time.perf_counter() - start)
            try:
                while os.read(reader, 4096):
                    pass
            except OSError:  # The other end has closed.
                pass
            process.wait()
        os.close(reader)
    # The first run reads the file from the disk.
    rest = sorted(seconds[1:])
    return f"| {name} | {statistics.median(rest):.3f} | {rest[0]:.3f} to {rest[-1]:.3f} |"


def run(context):
    names, context.complete = context.args.models or SHAPES, not context.args.models
    example = context.build("decode")
    head = "| model | TinyGPT, tokens/s | {peer}, tokens/s | ratio | ratios of the turns | peak memory, MiB |"
    lines = [context.machine(), "", "One sample, greedy, against llama.cpp:", ""]
    lines += [head.format(peer="llama.cpp") + " greedy ids |", "|---" * 7 + "|"]
    lines += [one_at_a_time(name, example, context) for name in names]
    sample = context.build("sample", kind="bin")
    lines += ["", "The same from 8-bit weights (`q8_0`) on both sides:", ""]
    lines += [head.format(peer="llama.cpp"), "|---" * 6 + "|"]
    lines += [one_at_a_time(name, example, context, in_bytes(name, sample, context)) for name in names]
    lines += ["", f"{N_SAMPLES} samples at once, with the prompt's pass, against `generate` of transformers:", ""]
    lines += [head.format(peer="transformers"), "|---" * 6 + "|"]
    lines += [several_at_once(name, example, context) for name in names]
    if os.name != "nt":
        lines += ["", "From the start of `sample` to the first text on a terminal, ten samples on their way:", ""]
        lines += ["| model | seconds, median | range |", "|---|---|---|"]
        lines += [first_token(name, sample, context) for name in names]
    return lines
