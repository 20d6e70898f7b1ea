"""Full training steps of one shape on random ids in PyTorch: the PyTorch side of bench/steps.py.

    echo 20 | python bench/torch_step.py '{"n_layer":6,"n_head":6,"n_embd":384,"block_size":256,"batch_size":8,"vocab_size":258,"dropout":0.0,"threads":2}'

Eager f32 as PyTorch does it best on a CPU: scaled_dot_product_attention, fused AdamW, tanh GELU from the library, tied
head. With --compile first, the model goes through torch.compile. The optional keys "device" ("cuda") and "dtype"
("bfloat16": autocast; "tf32") choose how a GPU computes; its times are of all steps of a line together. Every line of standard input is a number of steps to
make; the answer is a line of JSON with the seconds of each.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        c, self.n_head, self.p = s["n_embd"], s["n_head"], s["dropout"]
        self.ln_1, self.ln_2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.c_attn, self.attn_proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.c_fc, self.mlp_proj = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(c, dim=2)
        q, k, v = (z.view(b, t, self.n_head, c // self.n_head).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p)
        x = x + F.dropout(self.attn_proj(y.transpose(1, 2).reshape(b, t, c)), self.p)
        y = self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return x + F.dropout(y, self.p)


class Gpt(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.p = s["dropout"]
        self.wte, self.wpe = nn.Embedding(s["vocab_size"], s["n_embd"]), nn.Embedding(s["block_size"], s["n_embd"])
        self.blocks, self.ln_f = nn.ModuleList(Block(s) for _ in range(s["n_layer"])), nn.LayerNorm(s["n_embd"])
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = F.dropout(self.wte(ids) + self.wpe.weight[: ids.shape[1]], self.p)
        for block in self.blocks:
            x = block(x)
        logits = self.ln_f(x) @ self.wte.weight.T
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def main():
    shape = json.loads(sys.argv[-1])
    device, dtype = shape.get("device", "cpu"), shape.get("dtype", "float32")
    torch.manual_seed(1337)
    torch.set_num_threads(shape["threads"])
    if dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    model = Gpt(shape).to(device)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=True)
    ids = torch.randint(shape["vocab_size"], (shape["batch_size"], shape["block_size"] + 1)).to(device)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    if "--compile" in sys.argv:
        model.compile()

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    for line in sys.stdin:
        n_steps = int(line)
        if device == "cpu":
            seconds = []
            for _ in range(n_steps):
                start = time.perf_counter()
                loss = step()
                seconds.append(time.perf_counter() - start)
        else:
            # The host runs ahead of the GPU, as in a training loop that reads no loss.
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(n_steps):
                loss = step()
            torch.cuda.synchronize()
            seconds = [(time.perf_counter() - start) / n_steps] * n_steps
        print(json.dumps({"seconds": seconds, "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()
