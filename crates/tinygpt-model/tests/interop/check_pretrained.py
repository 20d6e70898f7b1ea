"""Checks that TinyGPT reads the GPT-2 directories that `transformers` writes.

    python check_pretrained.py

Makes GPT-2 models with random weights and saves them in f32, f16 and bf16, in one file and in shards. Of each our own
code (the example `logits`, run through cargo) computes logits that may differ from those of `transformers`, which
computes in f32 with the same rounded weights, by 1e-4. A model whose head is not its table must be refused by name.
Needs torch and transformers; run with torch 2.15.0 and transformers 5.23.0.
"""

import json
import pathlib
import subprocess
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
TOLERANCE = 1e-4
IDS = [7, 3, 199, 0, 42, 42, 5, 150, 11, 12]


def ours(directory):
    """What the example says: its output and its errors."""
    command = ["cargo", "run", "--quiet", "-p", "tinygpt-model", "--example", "logits", "--", directory, *IDS]
    result = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True)
    return result.stdout, result.stderr


def random_model(tied):
    torch.manual_seed(1)
    shape = dict(vocab_size=200, n_positions=32, n_embd=48, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(GPT2Config(**shape, tie_word_embeddings=tied)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for size, name in (("1GB", "one"), ("100KB", "shards")):
                directory = folder / f"{str(dtype)[6:]}-{name}"
                random_model(True).to(dtype).save_pretrained(directory, max_shard_size=size)
                n_files = len(list(directory.glob("*.safetensors")))
                assert (n_files > 1) == (name == "shards"), n_files
                model = GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float32).eval()
                with torch.no_grad():
                    theirs = model(torch.tensor([IDS])).logits[0]
                output, errors = ours(directory)
                assert output, errors
                difference = (torch.tensor(json.loads(output)["logits"]) - theirs).abs().max().item()
                print(f"{directory.name}: {n_files} files, logits differ by at most {difference:.1e}")
                assert difference <= TOLERANCE
        random_model(False).save_pretrained(folder / "untied")
        output, errors = ours(folder / "untied")
        assert not output and "tie_word_embeddings is false" in errors, errors
        print(f"untied: refused: {errors.strip()}")


if __name__ == "__main__":
    main()
