"""Checks that `transformers` reads what TinyGPT writes, and computes the same.

    cargo run -p tinygpt-model --example logits -- --init /tmp/models
    python check_transformers.py /tmp/models/bias /tmp/models/no_bias
    python check_transformers.py --text "Once upon a time" out-quickstart/best

For each directory: every weight is used and none is missing, the logits of our own code (the
example `logits`, run through cargo) differ by at most 1e-4 from those of GPT2LMHeadModel, and
greedy generation works. With --text the directory's tokenizer is loaded through AutoTokenizer,
must give exactly our ids (the example `ids` of tinygpt-data), and must decode back to the text;
its ids then replace the random ones. Where there is a model card, as `sample --export hf` writes
it, the code of the card is run as it stands, a text longer than the context is cut, and two texts
of different lengths give the same continuations together as alone. Needs torch and transformers;
run with torch 2.15.0 and transformers 5.24.0.
"""

import argparse
import contextlib
import io
import json
import pathlib
import re
import subprocess
import warnings

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
TOLERANCE = 1e-4


def ours(package, example, directory, *arguments):
    command = ["cargo", "run", "--quiet", "-p", package, "--example", example, "--"]
    output = subprocess.run(
        [*command, str(directory.resolve()), *map(str, arguments)],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout
    return json.loads(output)


def check_tokenizer(directory, text):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(text)["input_ids"]
    our_ids = ours("tinygpt-data", "ids", directory, text)
    assert ids == our_ids, f"ids differ: {ids} theirs, {our_ids} ours"
    assert tokenizer.decode(ids) == text, f"decodes to {tokenizer.decode(ids)!r}"
    assert tokenizer.eos_token == "<|endoftext|>", tokenizer.eos_token
    print(f"  {type(tokenizer).__name__}: {len(ids)} ids agree and decode to the text")
    return ids


def check_card(directory):
    """Runs the Python of the model card, then what people do next: long texts and several at once."""
    [code] = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    written = io.StringIO()
    names = {}
    with contextlib.chdir(directory), contextlib.redirect_stdout(written):
        exec(compile(code, f"{directory}/README.md", "exec"), names)
    text = written.getvalue()
    assert len(text) > 1, "the card's code prints nothing"
    print(f"  the card's code prints {text[:40]!r}...")

    model, tokenizer = names["model"], names["tokenizer"]
    context = model.config.n_positions
    assert tokenizer.model_max_length == context, tokenizer.model_max_length
    long = tokenizer("Once upon a time, " * 500, truncation=True, return_tensors="pt")
    assert long["input_ids"].shape == (1, context), long["input_ids"].shape
    with torch.no_grad():
        model(**long)
    texts = ["Once", "Once upon a"]
    n_new = min(8, context - max(len(tokenizer(text)["input_ids"]) for text in texts))
    made = []
    for batch in ([texts[0]], [texts[1]], texts):
        inputs = tokenizer(batch, padding=True, return_tensors="pt")
        assert set(inputs) == {"input_ids", "attention_mask"}, set(inputs)
        ids = model.generate(**inputs, max_new_tokens=n_new, do_sample=False)
        made += ids[:, inputs["input_ids"].shape[1]:].tolist()
    assert made[:2] == made[2:], made
    print(f"  a long text is cut to {context} tokens; two texts are continued together as alone")


def check(directory, text):
    print(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = GPT2LMHeadModel.from_pretrained(directory, output_loading_info=True)
    faults = {key: value for key, value in info.items() if value}
    assert not faults, f"loading is not clean: {faults}"
    model.eval()
    config = model.config
    # A model of one document has no end token.
    for token_id in (config.bos_token_id, config.eos_token_id):
        assert token_id is None or token_id < config.vocab_size

    if text is None:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(config.vocab_size, (min(24, config.n_positions),), generator=generator)
        ids = ids.tolist()
    else:
        ids = check_tokenizer(directory, text)[: config.n_positions]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0]
    logits = torch.tensor(ours("tinygpt-model", "logits", directory, *ids)["logits"])
    assert logits.shape == theirs.shape, f"shapes {logits.shape} ours, {theirs.shape} theirs"
    difference = (logits - theirs).abs().max().item()
    assert difference <= TOLERANCE, f"logits differ by {difference:g}"
    largest = theirs.abs().max().item()
    print(f"  logits {tuple(logits.shape)} differ by at most {difference:.1e}, of {largest:.2f}")

    prompt = torch.tensor([ids[: max(1, config.n_positions // 2)]])
    made = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4,
                          do_sample=False)
    print(f"  generates: {made[0, prompt.shape[1]:].tolist()}")
    if (directory / "README.md").exists():
        check_card(directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directories", nargs="+", type=pathlib.Path)
    parser.add_argument("--text")
    arguments = parser.parse_args()
    for path in arguments.directories:
        check(path, arguments.text)
