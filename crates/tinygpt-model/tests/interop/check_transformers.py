"""Checks that `transformers` reads what TinyGPT writes, and computes the same.

    cargo run -p tinygpt-model --example logits -- --init /tmp/models
    python check_transformers.py /tmp/models/bias /tmp/models/no_bias
    python check_transformers.py out-quickstart/best --text "Once upon a time" \
        --our-ids 12 7 40

For each directory: every weight is used and none is missing, the logits of our own binary (the
example `logits`, run through cargo) differ by at most 1e-4 from those of GPT2LMHeadModel, and
greedy generation works. With --text the directory's tokenizer is loaded through AutoTokenizer,
must give exactly --our-ids (printed by our tokenizer) if they are given, and must decode back to
the text; its ids then replace the random ones. Needs torch and transformers; run with torch
2.15.0 and transformers 5.23.0.
"""

import argparse
import json
import pathlib
import subprocess
import warnings

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
TOLERANCE = 1e-4


def our_logits(directory, ids):
    command = ["cargo", "run", "--quiet", "-p", "tinygpt-model", "--example", "logits", "--"]
    output = subprocess.run(
        [*command, str(directory.resolve()), *map(str, ids)],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout
    return torch.tensor(json.loads(output)["logits"])


def check_tokenizer(directory, text, our_ids):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(text)["input_ids"]
    assert our_ids is None or ids == our_ids, f"ids differ: {ids} here, {our_ids} ours"
    assert tokenizer.decode(ids) == text, f"decodes to {tokenizer.decode(ids)!r}"
    assert tokenizer.eos_token == "<|endoftext|>", tokenizer.eos_token
    print(f"  {type(tokenizer).__name__}: {len(ids)} ids agree and decode to the text")
    return ids


def check(directory, text, our_ids):
    print(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = GPT2LMHeadModel.from_pretrained(directory, output_loading_info=True)
    faults = {key: value for key, value in info.items() if value}
    assert not faults, f"loading is not clean: {faults}"
    model.eval()
    config = model.config
    assert config.eos_token_id < config.vocab_size and config.bos_token_id < config.vocab_size

    if text is None:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(config.vocab_size, (min(24, config.n_positions),), generator=generator)
        ids = ids.tolist()
    else:
        ids = check_tokenizer(directory, text, our_ids)[: config.n_positions]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0]
    ours = our_logits(directory, ids)
    assert ours.shape == theirs.shape, f"shapes {ours.shape} ours, {theirs.shape} theirs"
    difference = (ours - theirs).abs().max().item()
    assert difference <= TOLERANCE, f"logits differ by {difference:g}"
    print(f"  logits {tuple(ours.shape)} differ by at most {difference:.1e}, of {theirs.abs().max():.2f}")

    prompt = torch.tensor([ids[: max(1, config.n_positions // 2)]])
    made = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4,
                          do_sample=False)
    print(f"  generates: {made[0, prompt.shape[1]:].tolist()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directories", nargs="+", type=pathlib.Path)
    parser.add_argument("--text")
    parser.add_argument("--our-ids", nargs="*", type=int)
    arguments = parser.parse_args()
    for path in arguments.directories:
        check(path, arguments.text, arguments.our_ids)
