"""Checks that the real `tensorboard` package reads from event files exactly what metrics.jsonl holds.

    cargo build --bins
    python crates/tinygpt-train/tests/interop/check_tensorboard.py [--train target/debug/train]

A small run is trained with `--tensorboard`, stopped, resumed, killed and resumed again, so that its
metrics are cut back twice. Each time, every scalar of every tag must have the step and the float32 of
its line; a reader that was open all the time must forget what was cut. Then TensorBoard's own server
shows the run over HTTP. Needs tensorboard; run with tensorboard 2.21.0 and Python 3.12.
"""

import argparse
import json
import pathlib
import signal
import struct
import subprocess
import tempfile
import time
import urllib.request

from tensorboard import program
from tensorboard.backend.event_processing import event_accumulator, event_multiplexer

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
TAGS = {
    "train/loss": ("step", "loss"),
    "train/learning_rate": ("step", "learning_rate"),
    "train/grad_norm": ("step", "grad_norm"),
    "train/tokens_per_second": ("step", "tokens_per_second"),
    "eval/loss": ("eval", "val_loss"),
    "eval/bits_per_byte": ("eval", "val_bits_per_byte"),
}
EVERYTHING = {"scalars": 0, "tensors": 0}


def float32(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def of_metrics(out_dir):
    lines = [json.loads(line) for line in (out_dir / "metrics.jsonl").read_text().splitlines()]
    return {
        tag: [(line["iter"], float32(line[key])) for line in lines if line["event"] == event]
        for tag, (event, key) in TAGS.items()
    }


def of_tensorboard(accumulator):
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def check(out_dir, multiplexer, what):
    expected = of_metrics(out_dir)
    read = of_tensorboard(event_accumulator.EventAccumulator(str(out_dir), EVERYTHING))
    assert read == expected, f"{what}: a new reader"
    # As TensorBoard itself does while it runs.
    multiplexer.AddRunsFromDirectory(str(out_dir.parent))
    multiplexer.Reload()
    read = of_tensorboard(multiplexer.GetAccumulator(out_dir.name))
    assert read == expected, f"{what}: a reader that was open before"
    print(f"ok: {what}: {len(expected['train/loss'])} steps, {len(expected['eval/loss'])} evaluations")


def over_http(log_dir, name):
    tensorboard = program.TensorBoard()
    tensorboard.configure(argv=[None, "--logdir", str(log_dir), "--port", "0", "--load_fast", "false"])
    url = tensorboard.launch()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}data/plugin/scalars/tags") as answer:
            tags = json.load(answer)
        if set(tags.get(name, {})) >= set(TAGS):
            print(f"ok: TensorBoard's server shows {name} with {', '.join(sorted(TAGS))}")
            return
        time.sleep(0.5)
    raise AssertionError(f"{name} is not shown: {tags}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", default=REPOSITORY / "target/debug/train", type=pathlib.Path)
    train = str(parser.parse_args().train.resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        text = "".join(f"Line {i}: the cat number {7 * i} sat on mat {i % 5}.\n" for i in range(300))
        (folder / "text.txt").write_text(text)
        prepare = str(pathlib.Path(train).with_name("prepare"))
        subprocess.run([prepare, "--source", "text.txt"], cwd=folder, check=True, capture_output=True)
        out_dir = folder / "runs" / "out"
        multiplexer = event_multiplexer.EventMultiplexer(size_guidance=EVERYTHING)

        def run(*arguments, until=None, kill=signal.SIGINT):
            process = subprocess.Popen([train, "--out-dir", "runs/out", *arguments], cwd=folder,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for line in process.stderr:
                if until and line.startswith(until):
                    process.send_signal(kill)
                    until = None
            return process.wait()

        shape = ("--dataset-name text --n-layer 1 --n-head 2 --n-embd 32 --block-size 16 --batch-size 4 "
                 "--max-iters 4000 --eval-interval 100 --eval-iters 2 --threads 1 --log-interval 1 "
                 "--tensorboard").split()
        assert run(*shape, until="iter  250 ") == 130
        check(out_dir, multiplexer, "stopped")
        time.sleep(1.1)  # A name holds a second.
        resume = ["--init-from", "resume"]
        run(*resume, until="iter  950 ", kill=signal.SIGKILL)
        multiplexer.Reload()  # TensorBoard does it every 5 seconds.
        time.sleep(1.1)
        assert run(*resume, until="iter  990 ") == 130
        check(out_dir, multiplexer, "killed and resumed")
        time.sleep(1.1)
        assert run(*resume) == 0
        check(out_dir, multiplexer, "finished")
        over_http(folder / "runs", "out")


if __name__ == "__main__":
    main()
