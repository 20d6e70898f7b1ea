"""Trains the run of config/shakespeare_char_cpu.json with PyTorch, to compare loss and wall time with TinyGPT.

The model is GPT-2 (pre-LN, tanh GELU, learned positions, tied head) with scaled_dot_product_attention and
fused AdamW; data, schedule and initialisation are those of nanoGPT's CPU example: random windows, 90/10 split by
position, loss measured on 200 random validation batches at the end.

    python bench/shakespeare_char_torch.py --text input.txt --seed 1337 --threads 2

Needs: torch, numpy. Prints one JSON line with the result.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

N_LAYER, N_HEAD, N_EMBD, BLOCK_SIZE, BATCH_SIZE = 4, 4, 128, 64, 12
MAX_ITERS, WARMUP_ITERS, LEARNING_RATE, MIN_LR = 2000, 100, 1e-3, 1e-4
EVAL_BATCHES = 200


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(N_EMBD), nn.LayerNorm(N_EMBD)
        self.c_attn, self.attn_proj = nn.Linear(N_EMBD, 3 * N_EMBD), nn.Linear(N_EMBD, N_EMBD)
        self.c_fc, self.mlp_proj = nn.Linear(N_EMBD, 4 * N_EMBD), nn.Linear(4 * N_EMBD, N_EMBD)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(N_EMBD, dim=2)
        q, k, v = (z.view(b, t, N_HEAD, c // N_HEAD).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, N_EMBD), nn.Embedding(BLOCK_SIZE, N_EMBD)
        self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(N_LAYER)), nn.LayerNorm(N_EMBD)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("attn_proj.weight", "mlp_proj.weight"))
                nn.init.normal_(p, std=0.02 / (math.sqrt(2 * N_LAYER) if residual else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.T
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def learning_rate(step):
    if step < WARMUP_ITERS:
        return LEARNING_RATE * (step + 1) / (WARMUP_ITERS + 1)
    ratio = (step - WARMUP_ITERS) / (MAX_ITERS - WARMUP_ITERS)
    return MIN_LR + 0.5 * (1 + math.cos(math.pi * ratio)) * (LEARNING_RATE - MIN_LR)


def batch(data):
    starts = torch.randint(len(data) - BLOCK_SIZE, (BATCH_SIZE,))
    x = torch.stack([data[s : s + BLOCK_SIZE] for s in starts])
    y = torch.stack([data[s + 1 : s + 1 + BLOCK_SIZE] for s in starts])
    return x, y


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--text", required=True)
    args.add_argument("--seed", type=int, default=1337)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    text = open(args.text, encoding="utf-8").read()
    ids = {char: i for i, char in enumerate(sorted(set(text)))}
    data = torch.from_numpy(np.array([ids[c] for c in text], dtype=np.int64))
    train, val = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]

    model = Gpt(len(ids))
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True)

    start = time.perf_counter()
    for step in range(MAX_ITERS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss = model(*batch(train))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - start

    with torch.no_grad():
        losses = torch.stack([model(*batch(val)) for _ in range(EVAL_BATCHES)])
    result = {
        "torch": torch.__version__,
        "seed": args.seed,
        "threads": args.threads,
        "val_loss": round(losses.mean().item(), 4),
        "train_seconds": round(seconds, 1),
        "tokens_per_second": round(MAX_ITERS * BATCH_SIZE * BLOCK_SIZE / seconds),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
