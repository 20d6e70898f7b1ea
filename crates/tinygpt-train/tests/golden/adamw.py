"""Writes adamw.json: weights after ten steps of torch.optim.AdamW with two groups and clipping.

Inputs are small dyadic fractions given by integer formulas, so that the Rust test makes the very
same ones. Run: python adamw.py > adamw.json
"""

import json

import torch

torch.set_num_threads(1)

# A GPT-2 with V 3, T 2, L 1, H 1, C 2 and biases, in canonical order: name, shape.
SHAPES = [("wte.weight", [3, 2]), ("wpe.weight", [2, 2])]
SHAPES += [("h.0.ln_1.weight", [2]), ("h.0.ln_1.bias", [2])]
SHAPES += [("h.0.attn.c_attn.weight", [2, 6]), ("h.0.attn.c_attn.bias", [6])]
SHAPES += [("h.0.attn.c_proj.weight", [2, 2]), ("h.0.attn.c_proj.bias", [2])]
SHAPES += [("h.0.ln_2.weight", [2]), ("h.0.ln_2.bias", [2])]
SHAPES += [("h.0.mlp.c_fc.weight", [2, 8]), ("h.0.mlp.c_fc.bias", [8])]
SHAPES += [("h.0.mlp.c_proj.weight", [8, 2]), ("h.0.mlp.c_proj.bias", [2])]
SHAPES += [("ln_f.weight", [2]), ("ln_f.bias", [2])]


def weight(p, i):
    return ((i * 37 + p * 11) % 101 - 50) / 128


def gradient(step, p, i):
    return ((i * 7919 + step * 104729 + p * 31) % 257 - 128) / 64


def learning_rate(step):
    return 0.01 / (step + 1)


params = []
for p, (_, shape) in enumerate(SHAPES):
    n = torch.Size(shape).numel()
    values = torch.tensor([weight(p, i) for i in range(n)], dtype=torch.float32)
    params.append(torch.nn.Parameter(values.reshape(shape)))
groups = [
    {"params": [w for w in params if w.dim() >= 2], "weight_decay": 0.1},
    {"params": [w for w in params if w.dim() < 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-8)
norms = []
for step in range(10):
    for p, w in enumerate(params):
        values = [gradient(step, p, i) for i in range(w.numel())]
        w.grad = torch.tensor(values, dtype=torch.float32).reshape(w.shape)
    norms.append(torch.nn.utils.clip_grad_norm_(params, 5.0).item())
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    optimizer.step()

weights = {name: w.detach().flatten().tolist() for (name, _), w in zip(SHAPES, params)}
print(json.dumps({"torch": torch.__version__, "norms": norms, "weights": weights}, indent=1))
