"""Writes conversations and a hash of the ids that transformers finds with each chat template of a folder.

Usage: chat.py [FOLDER]. Without a folder, of ../golden/chat: the templates of published models (zephyr-7b-beta,
Llama-2-chat, Llama-3-Instruct, gemma-it), of ChatML, and ChatML with marks around the answers, of which transformers
gives the learned tokens. In another folder, of all *.jinja in the order of their names; the test
`published_templates_print_what_transformers_prints` reads them there.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FOLDER = GOLDEN / "chat"
NAMES = ["chatml", "zephyr", "llama2", "llama3", "gemma", "generation"]
SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <s> </s> <|start_header_id|> <|end_header_id|> <|eot_id|>"
    " <start_of_turn> <end_of_turn>"
).split()
WORDS = "the owl Once was 12 3,400 isn't We'll café 漢字 кот 🐈‍⬛ ( ) \" [INST] <|user|> <| |> {{ {% a<b role é".split()
SPACES = [" "] * 8 + ["  ", "\n", "\n\n", "\t", " \n ", "", ", "]


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(name, normalized=False, special=True) for name in SPECIAL],
    )
    tokenizer.train_from_iterator([(GOLDEN / "merges" / "text.txt").read_text(), "user assistant system\n\n"], trainer)
    return tokenizer


def text(rng: random.Random) -> str:
    return "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 9)))


def conversation(rng: random.Random) -> list[dict]:
    messages = [{"role": "system", "content": text(rng)}] if rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 3)):
        messages.append({"role": "user", "content": rng.choice(["", " ", "\n"]) + text(rng)})
        messages.append({"role": "assistant", "content": text(rng)})
    return messages


def digest(ids: list[int]) -> str:
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:8]


def hashes(fast: PreTrainedTokenizerFast, templates: dict[str, str], messages: list[dict]) -> list[str]:
    found = []
    for name, template in templates.items():
        options = {"chat_template": template, "return_dict": True}
        try:
            prompt = fast.apply_chat_template(messages[:-1], add_generation_prompt=True, **options)
            whole = fast.apply_chat_template(messages, return_assistant_tokens_mask=name == "generation", **options)
            learned = whole["assistant_masks"] if name == "generation" else []
            found.append(digest(prompt["input_ids"]) + digest(whole["input_ids"] + learned))
        except TemplateError:
            found.append("refused")
        except TypeError:
            # Without tools, Python cannot iterate over them; a template for tools fails.
            found.append("failed")
    return found


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    names = sorted(path.stem for path in folder.glob("*.jinja")) if len(sys.argv) > 1 else NAMES
    templates = {name: (folder / f"{name}.jinja").read_text() for name in names}
    tokenizer = trained()
    tokenizer.save(str(folder / "tokenizer.json"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    rng = random.Random(17)
    lines = []
    for _ in range(500):
        messages = conversation(rng)
        turns = [[message["role"][0], message["content"]] for message in messages]
        line = [turns, *hashes(fast, templates, messages)]
        lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
