#!/usr/bin/env python3
"""lm-evaluation-harness against our server, compared with transformers on the same weights.

    cargo run --bin sample -- --out-dir out-quickstart --export hf exported
    cargo run --bin sample -- --out-dir out-quickstart --serve
    pip install 'lm_eval[api,hf]'
    python crates/tinygpt-serve/tests/python/harness.py http://127.0.0.1:8080 exported

Two tasks on local files, written to a temporary folder: pairs of sentences as in BLiMP, and the choice
of an ending as in HellaSwag. The harness runs them through its `local-completions` (our server, with
`echo`) and through its `hf`. Accuracies must be equal, and each log-likelihood within 1e-3.
"""

import json
import os
import pathlib
import random
import sys
import tempfile
import urllib.request

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval
from lm_eval.tasks import TaskManager
from transformers import AutoConfig

url, exported = sys.argv[1].rstrip("/"), sys.argv[2]
served = json.load(urllib.request.urlopen(f"{url}/v1/models"))["data"][0]["id"]
context = AutoConfig.from_pretrained(exported).n_positions

PAIRS = """
task: local_pairs
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {folder}/pairs.jsonl}}}}
output_type: multiple_choice
validation_split: validation
test_split: null
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
metric_list: [{{metric: acc}}]
"""

ENDINGS = """
task: local_endings
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {folder}/endings.jsonl}}}}
output_type: multiple_choice
validation_split: validation
test_split: null
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: choices
num_fewshot: 0
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""

NAMES = ["Mia", "Ben", "Lucy", "Tom", "Nora", "Max", "Ella", "Sam"]
THINGS = ["ball", "kite", "drum", "doll", "robot", "wagon"]


def pairs(draw):
    """He or she of a boy or a girl, and a thing that stays the same."""
    for index in range(40):
        name, thing, other = draw.choice(NAMES), *draw.sample(THINGS, 2)
        girl = NAMES.index(name) % 2 == 0
        he, she = ("she", "he") if girl else ("he", "she")
        kind = "girl" if girl else "boy"
        start = f"Once upon a time, there was a little {kind} named {name}."
        if index % 2:
            good, bad = (f"{start} One day, {pronoun} found a {thing}." for pronoun in (he, she))
        else:
            start = f"{name} had a red {thing}. One day, the"
            good, bad = (f"{start} {word} was gone." for word in (thing, other))
        yield {"sentence_good": good, "sentence_bad": bad}


def endings(draw):
    """The story that belongs to a beginning."""
    ends = {
        "It was a hot day, and everybody was at the pond.": "was afraid of the water.",
        "It was night, and the room was very dark.": "heard a noise.",
        "It rained all day, and there was a kitten under a bench.": "took the kitten home.",
        "In the night, it snowed, and everything was white.": "built a snowman.",
    }
    for index in range(24):
        query, right = list(ends.items())[index % len(ends)]
        name = draw.choice(NAMES)
        choices = [f"{name} {end}" for end in ends.values()]
        draw.shuffle(choices)
        yield {"query": query, "choices": choices, "label": choices.index(f"{name} {right}")}


def write(folder):
    draw = random.Random(7)
    for name, documents, task in [("pairs", pairs, PAIRS), ("endings", endings, ENDINGS)]:
        lines = "".join(json.dumps(document) + "\n" for document in documents(draw))
        (folder / f"{name}.jsonl").write_text(lines)
        (folder / f"{name}.yaml").write_text(task.format(folder=folder))


def evaluate(folder, backend, **args):
    results = lm_eval.simple_evaluate(
        model=backend,
        model_args=args,
        tasks=["local_pairs", "local_endings"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    likelihoods = [
        (task, sample["doc_id"], [float(answer[0]) for answer in sample["filtered_resps"]])
        for task, samples in sorted(results["samples"].items())
        for sample in sorted(samples, key=lambda sample: sample["doc_id"])
    ]
    scores = {
        (task, metric): value
        for task, metrics in results["results"].items()
        for metric, value in metrics.items()
        if metric.startswith("acc") and "stderr" not in metric
    }
    return scores, likelihoods


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write(folder)
    ours, our_likelihoods = evaluate(
        folder,
        "local-completions",
        base_url=f"{url}/v1/completions",
        model=served,
        tokenizer=exported,
        tokenizer_backend="huggingface",
        max_length=context,
        batch_size=4,
        num_concurrent=1,
    )
    theirs, their_likelihoods = evaluate(
        folder, "hf", pretrained=exported, dtype="float32", device="cpu", max_length=context
    )

largest = 0.0
for (task, document, mine), (_, _, reference) in zip(our_likelihoods, their_likelihoods, strict=True):
    assert len(mine) == len(reference) > 1, (task, document)
    for one, other in zip(mine, reference, strict=True):
        largest = max(largest, abs(one - other))
        assert abs(one - other) < 1e-3, (task, document, mine, reference)
for score, value in sorted(theirs.items()):
    print(*score, f"{value:.4f}", "equal" if ours[score] == value else f"ours {ours[score]:.4f}")
print(len(our_likelihoods), "documents, log-likelihoods differ by at most", f"{largest:.1e}")
assert ours == theirs, (ours, theirs)
print("OK")
