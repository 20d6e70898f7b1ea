"""Encoding and training with Python's `tokenizers` on a text in memory: the `tokenizers` side of bench/data.py.

    echo 1 | RAYON_NUM_THREADS=1 python bench/tokenizers_speed.py '{"task":"encode","tokenizer":"tokenizer.json","text":"stories.txt"}'

The task is as in crates/tinygpt-data/examples/text_speed.rs, and so are documents, answers and the check of the result.
The number of threads is taken from RAYON_NUM_THREADS.
"""

import hashlib
import json
import sys
import time

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"


def encode(tokenizer, documents):
    return sum(len(encoded) for encoded in tokenizer.encode_batch_fast(documents, add_special_tokens=False))


def learn(task, documents):
    """Trains as `prepare` does and returns the SHA-256 of the merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=task["vocab_size"],
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(END_OF_TEXT, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return hashlib.sha256("".join(f"{left} {right}\n" for left, right in merges).encode()).hexdigest()


def main():
    task = json.loads(sys.argv[1])
    with open(task["text"], encoding="utf-8", newline="") as file:
        documents = [text for text in file.read().split(f"\n{END_OF_TEXT}\n") if text]
    if task["task"] == "encode":
        tokenizer = Tokenizer.from_file(task["tokenizer"])

        def work():
            return encode(tokenizer, documents)
    else:

        def work():
            return learn(task, documents)

    for line in sys.stdin:
        seconds, result = [], None
        for _ in range(int(line)):
            start = time.perf_counter()
            result = work()
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "result": result}), flush=True)


if __name__ == "__main__":
    main()
