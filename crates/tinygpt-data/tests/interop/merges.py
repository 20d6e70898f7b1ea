"""Writes the merges that Python's tokenizers learns from ../golden/merges/text.txt, one line a document.

Usage: merges.py. It writes ../golden/merges/merges.txt, one merge a line; `cargo test` learns the same from the text.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "merges"


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken("<|endoftext|>", special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = (FOLDER / "text.txt").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (FOLDER / "merges.txt").write_text(lines, encoding="utf-8")
    print(len(merges), "merges")


if __name__ == "__main__":
    main()
