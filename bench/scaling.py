"""Trains small models of several sizes on several numbers of tokens, and interpolates the validation loss they reach.

    python bench/scaling.py run RESULTS --shakespeare input.txt    trains what RESULTS (JSON lines) does not hold yet
    python bench/scaling.py fit RESULTS                            prints the tables of docs/scaling.md
    python bench/scaling.py fit RESULTS --write                    also writes the table that `train --plan` reads

Only losses are kept, so the runs may share the machine with others: one thread, and `nice` in front if you like.
--train and --prepare name the programs; without them cargo builds and runs them. Nothing is imported but the standard
library.
"""

import argparse
import datetime
import json
import math
import pathlib
import shlex
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "crates" / "tinygpt-cli" / "src" / "command" / "train" / "scaling.json"

# For each dataset its config, the shapes (n_layer, n_head, n_embd) and the numbers of steps. The last runs are not
# fitted: they show how far the fit is from runs that it has not seen.
RUNS = {
    "tiny_tales": {
        "config": "config/quickstart.json",
        "fitted": [
            ((2, 2, 64), [250, 500, 1000, 2000]),
            ((2, 3, 96), [250, 500, 1000]),
            ((3, 4, 128), [250, 500, 1000]),
            ((3, 5, 160), [250, 500, 1300]),
        ],
        "held_out": [((2, 4, 128), [700]), ((3, 3, 96), [1500])],
    },
    "shakespeare_char": {
        "config": "config/shakespeare_char_cpu.json",
        "fitted": [
            ((2, 2, 64), [250, 500, 1000, 2000]),
            ((3, 3, 96), [250, 500, 1000, 2000]),
            ((4, 4, 128), [250, 500, 1000, 2000]),
        ],
        "held_out": [((3, 4, 128), [700]), ((4, 3, 96), [1500])],
    },
}


def jobs():
    """Each run as a dictionary, the cheapest first."""
    found = []
    for dataset, runs in RUNS.items():
        for part in ["fitted", "held_out"]:
            for (n_layer, n_head, n_embd), steps in runs[part]:
                for max_iters in steps:
                    found.append({"dataset": dataset, "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd,
                                  "max_iters": max_iters, "fitted": part == "fitted"})
    return sorted(found, key=lambda job: job["n_layer"] * job["n_embd"] ** 2 * job["max_iters"])


def run(args):
    results = pathlib.Path(args.results)
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for job in jobs():
        if not any(job.items() <= result.items() for result in done):
            result = {**job, **train(args, job), "date": datetime.date.today().isoformat()}
            with results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)


def train(args, job):
    """The losses of a run and its numbers of weights and tokens."""
    n, dataset = job["max_iters"], job["dataset"]
    prepare(args, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        flags = {
            "config-file": ROOT / RUNS[dataset]["config"], "data-dir": args.data_dir, "out-dir": f"{scratch}/out",
            "n-layer": job["n_layer"], "n-head": job["n_head"], "n-embd": job["n_embd"],
            "max-iters": n, "lr-decay-iters": n, "warmup-iters": min(50, n // 10), "eval-interval": n,
            "eval-iters": 40, "sample-at-eval": "false", "threads": 1, "log-interval": n,
        }
        words = [word for key, value in flags.items() for word in [f"--{key}", str(value)]]
        subprocess.run([*args.train, *words], check=True, capture_output=True)
        lines = [json.loads(line) for line in open(f"{scratch}/out/metrics.jsonl")]
        last = [line for line in lines if line["event"] == "eval"][-1]
        config = json.loads(pathlib.Path(f"{scratch}/out/last/config.json").read_text())
        state = json.loads(pathlib.Path(f"{scratch}/out/last/state.json").read_text())["config"]
    per_step = state["batch_size"] * state["block_size"] * state["gradient_accumulation_steps"]
    blocks = job["n_layer"] * (12 * job["n_embd"] ** 2 + 13 * job["n_embd"])
    embeddings = (config["vocab_size"] + config["n_positions"] + 2) * job["n_embd"]
    return {"vocab_size": config["vocab_size"], "n_params": blocks + embeddings, "n_block_params": blocks,
            "tokens": n * per_step,
            "learning_rate": state["learning_rate"], "val_loss": last["val_loss"], "train_loss": last["train_loss"],
            "val_bpb": last["val_bits_per_byte"]}


def prepare(args, dataset):
    """Prepares the data as the run needs it, unless it is there."""
    config = json.loads((ROOT / RUNS[dataset]["config"]).read_text())
    encoding = config["encoding_type"]
    if (pathlib.Path(args.data_dir) / dataset / encoding).exists():
        return
    words = ["--dataset-name", dataset, "--data-dir", args.data_dir, "--encoding-type", encoding]
    if "vocab_size" in config:
        words += ["--vocab-size", str(config["vocab_size"])]
    if dataset == "shakespeare_char" and args.shakespeare:
        words += ["--source", args.shakespeare]
    subprocess.run([*args.prepare, *words], check=True, capture_output=True)


def place(run):
    """The logarithms of the number of weights and of the training tokens, in millions."""
    return math.log(run["n_params"] / 1e6), math.log(run["tokens"] / 1e6)


def bending(one, other):
    """The thin-plate spline's function of the distance r: r^2 ln r."""
    squared = (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
    return 0.5 * squared * math.log(squared) if squared > 0 else 0.0


def fit(runs):
    """The thin-plate spline through the losses (Duchon 1977): the surface that bends least. Its weight for each run, and
    the three coefficients of its plane.

    A sum of powers with a constant (Hoffmann et al. 2022) does not fit tiny_tales, where losses fall faster and faster
    while a model learns the templates.
    """
    places = [place(run) for run in runs]
    planes = [[1.0, n, d] for n, d in places]
    rows = [[bending(one, other) for other in places] + plane for one, plane in zip(places, planes)]
    rows += [[plane[i] for plane in planes] + [0.0] * 3 for i in range(3)]
    found = solve(rows, [run["val_loss"] for run in runs] + [0.0] * 3)
    return {"runs": runs, "weights": found[:-3], "plane": found[-3:]}


def solve(matrix, right):
    """The solution of linear equations, by elimination with pivots."""
    rows = [row + [value] for row, value in zip(matrix, right)]
    for i in range(len(rows)):
        pivot = max(range(i, len(rows)), key=lambda j: abs(rows[j][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i])]
    return [row[-1] for row in rows]


def predict(spline, run):
    at = place(run)
    bent = sum(weight * bending(at, place(other)) for weight, other in zip(spline["weights"], spline["runs"]))
    return bent + sum(a * b for a, b in zip(spline["plane"], [1.0, *at]))


def fits(args):
    results = [json.loads(line) for line in pathlib.Path(args.results).read_text().splitlines()]
    table = {}
    for dataset in RUNS:
        runs = [run for run in results if run["dataset"] == dataset]
        fitted = [run for run in runs if run["fitted"]]
        spline = fit(fitted)
        # Each run predicted from the others.
        left_out = [predict(fit([other for other in fitted if other is not run]), run) for run in fitted]
        errors = [guess - run["val_loss"] for guess, run in zip(left_out, fitted)]
        rms = math.sqrt(sum(error ** 2 for error in errors) / len(errors))
        print(f"\n### {dataset}\n")
        print(f"Error of a run predicted from the others: {rms:.3f} nats (root mean square), "
              f"at most {max(map(abs, errors)):.3f}.\n")
        print("| Layers, heads, width | Parameters | Steps | Tokens | Validation loss | Predicted | Bits per byte |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        predicted = dict(zip(map(id, fitted), left_out))
        for run in sorted(runs, key=lambda run: (not run["fitted"], run["n_params"], run["tokens"])):
            star = "" if run["fitted"] else " (not in the table)"
            print(f"| {run['n_layer']}, {run['n_head']}, {run['n_embd']}{star} | {run['n_params']:,} "
                  f"| {run['max_iters']:,} | {run['tokens']:,} | {run['val_loss']:.3f} "
                  f"| {predicted.get(id(run), predict(spline, run)):.3f} | {run['val_bpb']:.3f} |")
        keys = ["n_params", "tokens", "val_loss"]
        table[dataset] = {
            "plane": [round(value, 6) for value in spline["plane"]], "error": round(rms, 4),
            "encoding_type": json.loads((ROOT / RUNS[dataset]["config"]).read_text())["encoding_type"],
            "vocab_size": fitted[0]["vocab_size"],
            "bits_per_byte_per_nat": round(sum(run["val_bpb"] / run["val_loss"] for run in fitted) / len(fitted), 6),
            "runs": [{**{key: run[key] for key in keys}, "weight": round(weight, 6)}
                     for run, weight in zip(fitted, spline["weights"])],
        }
    if args.write:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.set_defaults(function=run)
    runs.add_argument("--shakespeare", help="the text of tiny Shakespeare, if it is not to be downloaded")
    runs.add_argument("--data-dir", default="data")
    for program in ["train", "prepare"]:
        runs.add_argument(f"--{program}", type=shlex.split, default=["cargo", "run", "--quiet", "--bin", program, "--"])
    fitting = commands.add_parser("fit")
    fitting.set_defaults(function=fits)
    fitting.add_argument("--write", action="store_true")
    for command in [runs, fitting]:
        command.add_argument("results")
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
