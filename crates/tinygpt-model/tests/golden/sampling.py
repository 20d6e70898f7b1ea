"""Makes sampling.json next to this file: what `transformers` makes of logits before it draws, and greedy texts.

    python sampling.py

For each set of logits and each combination of settings: which tokens survive, with their probabilities, after the
processors that `generate` itself puts together, in its order. `logit_bias` is OpenAI's name for what transformers calls
`sequence_bias`, here of single tokens. The file in the repository was made with transformers 5.24.0 and torch 2.15.0, in
f32. Where equal tokens lie at the edge of top-p, which of them stay depends on torch's sort;
such cases are marked `ties`, and there only the probabilities count.
"""

import json
import pathlib

import torch
from transformers import GenerationConfig, GPT2LMHeadModel, LogitsProcessorList

HERE = pathlib.Path(__file__).parent
MODEL = GPT2LMHeadModel.from_pretrained(HERE / "plain").eval()

SETTINGS = [
    {},
    {"temperature": 0.3}, {"temperature": 2.5},
    {"top_k": 1}, {"top_k": 7}, {"top_k": 5000},
    {"top_p": 0.0}, {"top_p": 0.35}, {"top_p": 0.9}, {"top_p": 0.98},
    {"min_p": 0.03}, {"min_p": 0.4}, {"min_p": 1.0},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7},
    {"temperature": 0.7, "top_k": 12},
    {"temperature": 1.8, "top_p": 0.8},
    {"temperature": 1.5, "min_p": 0.1},
    {"top_k": 10, "top_p": 0.75},
    {"top_k": 20, "min_p": 0.05},
    {"top_p": 0.95, "min_p": 0.08},
    {"repetition_penalty": 1.8, "top_k": 6},
    {"repetition_penalty": 1.2, "top_p": 0.6},
    {"repetition_penalty": 1.2, "temperature": 0.8, "top_k": 40, "top_p": 0.92, "min_p": 0.02},
    {"repetition_penalty": 2.0, "temperature": 1.4, "top_k": 9, "top_p": 0.97, "min_p": 0.1},
    {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 9},
    {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "temperature": 0.7, "top_k": 8},
    {"no_repeat_ngram_size": 3, "top_p": 0.7},
    {"no_repeat_ngram_size": 1, "min_p": 0.05},
    {"logit_bias": {"9": 4.5, "12": -100.0, "30": 2.0}},
    {"logit_bias": {"9": 4.5, "5": -3.0}, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "top_k": 10},
]


def logit_sets():
    """Name, logits [V], and the text before them."""
    generator = torch.Generator().manual_seed(6)

    def noise(n, scale):
        return torch.randn(n, generator=generator) * scale

    peaked = noise(65, 1.0)
    peaked[[3, 40]] += torch.tensor([9.0, 7.5])
    equal = torch.randint(-3, 4, (65,), generator=generator).float()
    return [
        ("even", noise(33, 0.05), [4, 4, 9]),
        ("wide", noise(65, 3.0), [64, 1, 30, 1, 12]),
        ("peaked", peaked, [3, 3, 3, 17]),
        ("equal", equal, [0, 5, 6]),
        ("large", noise(1003, 2.5), list(range(0, 1003, 50))),
        ("repeating", noise(65, 3.0), [5, 9, 12, 5, 9, 7, 30, 5, 9]),
    ]


def processed(logits, text, settings):
    """The surviving tokens and their probabilities."""
    settings = dict(settings)
    if bias := settings.pop("logit_bias", None):
        settings["sequence_bias"] = [[[int(token)], value] for token, value in bias.items()]
    # Whatever is not set is off.
    config = GenerationConfig(**({"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0} | settings))
    processors = MODEL._get_logits_processor(
        generation_config=config, input_ids_seq_length=len(text), logits_processor=LogitsProcessorList(), device="cpu")
    scores = processors(torch.tensor([text]), logits[None].clone())[0]
    ids = (scores > -torch.inf).nonzero().flatten()
    return ids.tolist(), torch.softmax(scores, -1)[ids].tolist()


def has_ties(logits, ids):
    """Whether a token was cut that equals one which survived."""
    return bool(set(logits.tolist()) & {logits[i].item() for i in ids}) and any(
        logits[i] == logits[j] for i in ids for j in range(len(logits)) if j not in set(ids))


def case(name, logits, text, settings):
    ids, probabilities = processed(logits, text, settings)
    for nudge in (-3e-6, 3e-6):
        nudged = {k: min(max(v * (1 + nudge), 0.0), 1.0) if k in ("top_p", "min_p") else v for k, v in settings.items()}
        assert name == "equal" or processed(logits, text, nudged)[0] == ids, f"{name} {settings}: at an edge"
    return {
        "logits": name, "settings": settings, "ids": ids, "ties": "top_p" in settings and has_ties(logits, ids),
        "probabilities": [float(f"{p:.7g}") for p in probabilities],
    }


def greedy(prompt, penalty, ngram):
    out = MODEL.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=16 - len(prompt), repetition_penalty=penalty, no_repeat_ngram_size=ngram, eos_token_id=None,
        pad_token_id=0)
    return {"prompt": prompt, "repetition_penalty": penalty, "no_repeat_ngram_size": ngram, "tokens": out[0, len(prompt):].tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sets = logit_sets()
    cases = [
        case(name, logits, text, settings)
        for name, logits, text in sets for settings in SETTINGS
        # Of the large one only what cuts it down; only one text repeats itself.
        if name != "large" or {"top_k", "top_p", "min_p"} & set(settings) and settings.get("top_k") != 5000
        if name == "repeating" or not {"no_repeat_ngram_size", "logit_bias"} & set(settings)
    ]
    written = {
        "sets": [{"name": name, "logits": logits.tolist(), "text": text} for name, logits, text in sets],
        "cases": cases,
        "greedy": [
            greedy(prompt, penalty, ngram) for prompt in ([7], [1, 2, 3], [50, 50, 9, 31])
            for penalty, ngram in ((1.0, 0), (1.15, 0), (1.7, 0), (1.0, 1), (1.0, 2), (1.15, 3))],
    }
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
             for key, rows in written.items()]
    (HERE / "sampling.json").write_text("{" + ",\n".join(lines) + "}\n")
