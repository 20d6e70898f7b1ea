"""From text to shards, compared with Python's `tokenizers`: encoding, characters, training, and the whole of `prepare`.

Both sides read the same file and give the same ids and the same merges, or the section stops. `stories` is the file
given with --text, else stories of the embedded dataset; `mixed` is made by corpus.py so that words do not repeat by
copying. Of both a sample is measured, documents at even distances; the peer takes as long for its first turn as for any
other. The whole of `prepare` reads a parquet file of --prepare-gb: the mixed text once, then stories again and again.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import corpus
from turns import Program, build

NAME = "data"
PEERS = ["tokenizers", "pyarrow"]
PEER = pathlib.Path(__file__).resolve().parent / "tokenizers_speed.py"
PARTS = ["encode", "characters", "learn", "prepare"]
VOCAB_SIZE = 30_000


def add_arguments(parser):
    parser.add_argument("--text", type=pathlib.Path, help="stories, each with a line `<|endoftext|>` after it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only some parts; printed, not written")
    parser.add_argument("--sample-mb", type=float, default=8, help="how much of each text is encoded")
    parser.add_argument("--learn-mb", type=float, default=64, help="how much of the mixed text is used for training")
    parser.add_argument("--prepare-gb", type=float, default=2, help="size of the text in the parquet file")


def sample(name, path, megabytes):
    """Evenly spaced documents of a text, about this many megabytes."""
    target = corpus.FOLDER / f"{name}-{megabytes:g}.txt"
    text = path.read_text(encoding="utf-8")
    documents = [document for document in text.split(corpus.SEPARATOR) if document]
    step = max(1, round(len(text.encode()) / (megabytes * 1e6)))
    target.write_text("".join(document + corpus.SEPARATOR for document in documents[::step]), encoding="utf-8")
    return target


def compare(name, task, text, threads, context, ours):
    """Measures both sides in alternation on a task; returns the row of the table."""
    given = {**task, "text": str(text)}
    env = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
    sides = [
        Program([ours, json.dumps({**given, "threads": threads})]),
        Program([context.python, PEER, json.dumps(given)], env),
    ]
    # One piece would be too short a turn for TinyGPT; the text was already encoded once.
    once = sides[0].turn(1)
    amounts, seconds = [max(1, round(0.3 / once)), 1], [[], []]
    for turn in range(context.args.turns):
        answers = [program.ask(amount) for program, amount in zip(sides, amounts)]
        if answers[0]["result"] != answers[1]["result"]:
            sys.exit(f"{name} on {text}: ours gives {answers[0]['result']}, theirs {answers[1]['result']}")
        for side, answer in enumerate(answers):
            seconds[side].append(statistics.median(answer["seconds"]))
        print(f"{name} {turn + 1}/{context.args.turns}: {seconds[0][-1]:.4f} s, {seconds[1][-1]:.4f} s", file=sys.stderr)
    for program in sides:
        program.finish()
    megabytes = text.stat().st_size / 1e6
    speeds = [megabytes / statistics.median(s) for s in seconds]
    ratios = sorted(theirs / own for own, theirs in zip(*seconds))
    return (
        f"| {name} | {text.stem.partition('-')[0]} | {threads} | {speeds[0]:,.0f} | {speeds[1]:,.1f} "
        f"| **{statistics.median(ratios):,.0f}** | {ratios[0]:,.0f} to {ratios[-1]:,.0f} |"
    )


def learn_first(ours, encoding, text, name):
    """Trains a tokenizer that both sides use to encode."""
    path = corpus.FOLDER / name
    task = {"task": "learn", "encoding": encoding, "vocab_size": VOCAB_SIZE, "text": str(text), "threads": 1}
    subprocess.run([ours, json.dumps({**task, "save": str(path)})], input="1", text=True, check=True, capture_output=True)
    return path / "tokenizer.json"


def parquet(python, stories, mixed, gigabytes):
    """A table of documents in one column, like the datasets on the hub: snappy, 1,000 rows per group."""
    target = corpus.FOLDER / f"documents-{stories.stem}-{gigabytes:g}.parquet"
    if not target.exists():
        writer = pathlib.Path(__file__).resolve().parent / "write_parquet.py"
        command = [python, writer, f"{target}.part", str(gigabytes * 1e9), mixed, stories]
        subprocess.run(command, check=True)
        os.rename(f"{target}.part", target)
    return target


def prepare(context, encoding, source, threads):
    """Runs `prepare` once; returns the row of the table."""
    data = corpus.FOLDER / "data"
    shutil.rmtree(data, ignore_errors=True)
    binary = build("prepare", context.args.profile, "bin")
    command = [binary, "--dataset-name", "bench", "--source", source, "--data-dir", data, "--encoding-type", encoding]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--vocab-size", str(VOCAB_SIZE)],
        env=os.environ | {"RAYON_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_memory(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"prepare stopped with status {process.returncode}")
    meta = json.loads((data / "bench" / encoding / "meta.json").read_text())
    shutil.rmtree(data)
    n_bytes, n_tokens = (meta["train"][key] + meta["val"][key] for key in ("n_bytes", "n_tokens"))
    return (
        f"| {encoding} | {n_bytes / 1e9:.2f} | {source.stat().st_size / 1e9:.2f} | {threads} | **{seconds:.1f}** "
        f"| {n_bytes / seconds / 1e6:,.0f} | {n_tokens / 1e6:,.0f} | {peak / 1024:,.0f} |"
    )


def anonymous_memory(pid):
    """Anonymous memory of a process in KiB (Linux)."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def run(context):
    args = context.args
    parts, context.complete = args.parts or PARTS, not args.parts
    ours = context.build("text_speed")
    stories = args.text or corpus.stories(ours, 20_000)
    mixed = corpus.mixed(ours, 300e6)
    texts = [sample(*text, args.sample_mb) for text in (("stories", stories), ("mixed", mixed))]
    lines = [context.machine(), ""]
    if {"encode", "characters", "learn"} & set(parts):
        columns = ["what", "text", "threads", "TinyGPT, MB/s", "tokenizers, MB/s", "ratio", "ratios of the turns"]
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    threads = sorted({1, args.threads})
    if "encode" in parts:
        tokenizer = learn_first(ours, "bpe", texts[1], "bpe")
        task = {"task": "encode", "tokenizer": str(tokenizer)}
        lines += [compare("encode, bpe", task, text, n, context, ours) for text in texts for n in threads]
    if "characters" in parts:
        tokenizer = learn_first(ours, "simple", texts[0], "simple")
        task = {"task": "encode", "tokenizer": str(tokenizer)}
        lines += [compare("encode, characters", task, text, 1, context, ours) for text in texts]
    if "learn" in parts:
        task = {"task": "learn", "encoding": "bpe", "vocab_size": VOCAB_SIZE}
        text = sample("mixed", mixed, args.learn_mb)
        lines += [compare("learn bpe", task, text, n, context, ours) for n in threads]
    if "prepare" in parts:
        columns = ["prepare", "text, GB", "parquet, GB", "threads", "seconds", "MB/s", "million tokens"]
        columns.append("peak anonymous memory, MiB")
        lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        source = parquet(context.python, stories, mixed, args.prepare_gb)
        lines += [prepare(context, encoding, source, args.threads) for encoding in ("bpe", "simple")]
    return lines
