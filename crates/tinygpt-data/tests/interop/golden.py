"""Checks a prepared directory against tokenizers and transformers; writes golden ids.

Usage: golden.py DATA_DIR/NAME, where both encodings of tests/golden/text.txt are prepared.
See README.md next to this file.
"""

import hashlib
import json
import shutil
import struct
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HEADER_BYTES = 128
END_OF_TEXT = "<|endoftext|>"
GOLDEN = Path(__file__).resolve().parent.parent / "golden"

TEXTS = [
    "",
    "Once there was a kite.",
    "It's the snail's café, isn't it?  We'll see!\n\n\tTwo   spaces \n",
    "Never seen: 漢字 кот 🐈‍⬛ é ",
    f"The end.{END_OF_TEXT}Once more{END_OF_TEXT}{END_OF_TEXT}",
    "<0x41> is five characters, and <|endoftext is no separator.",
    "\x00\x7f\xa0\u3000\ufeff\U0010ffff\r\n",
]


def shard_ids(path: Path) -> list[int]:
    """The ids of a shard, by the layout in src/shard/header.rs."""
    data = path.read_bytes()
    assert data[:8] == b"TGPTSHRD", path
    version, width, n_tokens, _ = struct.unpack("<IIQQ", data[8:32])
    assert version == 1 and hashlib.sha256(data[:96]).digest() == data[96:128]
    assert hashlib.sha256(data[HEADER_BYTES:]).digest() == data[64:96]
    return list(struct.unpack(f"<{n_tokens}{'H' if width == 2 else 'I'}", data[HEADER_BYTES:]))


def documents() -> list[str]:
    return (GOLDEN / "text.txt").read_text().removesuffix(f"\n{END_OF_TEXT}\n").split(f"\n{END_OF_TEXT}\n")


def check(encoding: str, directory: Path) -> None:
    meta = json.loads((directory / "meta.json").read_text())
    raw = (directory / "tokenizer.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == meta["tokenizer_sha256"]
    plain = Tokenizer.from_file(str(directory / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(directory)
    fast = PreTrainedTokenizerFast.from_pretrained(directory)
    # transformers 5 may name its classes anew; what counts are the ids.
    print(encoding, type(auto).__name__, "vocabulary", meta["vocab_size"])
    assert auto.eos_token == auto.bos_token == END_OF_TEXT and auto.eos_token_id == 0
    assert len(auto) == meta["vocab_size"]

    ids = [i for split in ("train", "val") for i in shard_ids(directory / f"{split}-00000.bin")]
    joined = END_OF_TEXT.join(documents()) + END_OF_TEXT
    for tokenizer in (auto, fast):
        assert tokenizer.encode(joined) == ids
        assert tokenizer.decode(ids) == joined
    assert plain.encode(joined).ids == ids
    assert plain.decode(ids, skip_special_tokens=False) == joined

    golden = []
    for text in TEXTS:
        expected = plain.encode(text).ids
        for tokenizer in (auto, fast):
            assert tokenizer.encode(text) == expected, text
            assert tokenizer.decode(expected) == text, (text, tokenizer.decode(expected))
        golden.append({"text": text, "ids": expected})

    target = GOLDEN / encoding
    target.mkdir(exist_ok=True)
    shutil.copy(directory / "tokenizer.json", target)
    text = json.dumps({"train_and_val": ids, "texts": golden})
    (target / "golden.json").write_text(text + "\n")


def check_merges(directory: Path) -> None:
    """The same text trained in Python gives the same vocabulary and merges."""
    ours = json.loads((directory / "tokenizer.json").read_text())
    n_train = json.loads((directory / "meta.json").read_text())["train"]["n_documents"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(END_OF_TEXT, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents()[:n_train], trainer)
    theirs = json.loads(tokenizer.to_str())
    assert ours["model"]["vocab"] == theirs["model"]["vocab"]
    assert ours["model"]["merges"] == theirs["model"]["merges"]
    print("merges: the same", len(theirs["model"]["merges"]))


if __name__ == "__main__":
    prepared = Path(sys.argv[1])
    for encoding in ("simple", "bpe"):
        check(encoding, prepared / encoding)
    check_merges(prepared / "bpe")
    print("ok")
