"""Makes the fixtures next to this file: small random GPT-2 models and what PyTorch computes with them.

Each directory is what `GPT2LMHeadModel.save_pretrained` wrote, plus

    expected.safetensors   inputs, targets, logits, and the gradient of the loss by each parameter
    expected.json          the loss, and the losses of ten AdamW steps on the same batch

Run from anywhere: `python make.py`. The files in the repository were made with torch 2.15.0,
transformers 5.23.0 (`masked`, `documents`: 5.24.0) and safetensors 0.8.0, f32 on one CPU thread. Weights, biases and gains are all
random and larger than at init, so that no term can be forgotten unseen.
With `learned`, the labels of the other targets are -100, and the loss is that of transformers.
With `documents`, the positions where the documents of each sequence start, loss and gradients are those of attention
inside each document (a mask for each sequence); the logits are those of whole sequences.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

HERE = pathlib.Path(__file__).parent
ADAMW = {"lr": 3e-3, "betas": (0.9, 0.99), "eps": 1e-8}
WEIGHT_DECAY, GRAD_CLIP, N_STEPS = 0.1, 1.0, 10


def make(name, *, batch_size, seq_len, tokens, bias=True, learned=None, documents=None, **shape):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    config = GPT2Config(
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=0, bias=bias, attn_implementation="eager", **shape,
    )
    model = GPT2LMHeadModel(config).train()
    trained = {}
    for key, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.data = noise * 0.15 + (1.0 if ".ln_" in key and key.endswith("weight") else 0.0)
        if key.endswith("bias") and not bias:
            p.data.zero_()
            p.requires_grad = False
        else:
            trained[key.removeprefix("transformer.")] = p
    directory = HERE / name
    model.save_pretrained(directory)

    ids = torch.randint(tokens, (batch_size, seq_len + 1), generator=generator)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    if learned is not None:
        targets[torch.rand(targets.shape, generator=generator) > torch.tensor(learned)[:, None]] = -100

    if documents is not None:
        starts = torch.zeros(batch_size, seq_len, dtype=torch.long)
        for sequence, firsts in zip(starts, documents):
            for first in firsts:
                sequence[first:] = first
        key, query = torch.arange(seq_len), torch.arange(seq_len)[:, None]
        seen = (key <= query) & (key >= starts[:, :, None])
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]

    def forward():
        if documents is not None:
            logits = model(inputs, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            return model(inputs).logits, loss
        if learned is not None:
            output = model(inputs, labels=targets, shift_labels=targets)
            return output.logits, output.loss
        logits = model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

    logits, loss = forward()
    loss.backward()
    expected = {"inputs": inputs, "targets": targets, "logits": logits.detach()}
    if documents is not None:
        expected["document_starts"] = starts
    expected |= {f"grad.{key}": p.grad.clone() for key, p in trained.items()}
    save_file(expected, directory / "expected.safetensors")

    optimizer = torch.optim.AdamW([
        {"params": [p for p in trained.values() if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained.values() if p.dim() < 2], "weight_decay": 0.0},
    ], **ADAMW)
    losses = []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        step_loss = forward()[1]
        step_loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), GRAD_CLIP)
        optimizer.step()
        losses.append(step_loss.item())
    (directory / "expected.json").write_text(
        json.dumps({"loss": loss.item(), "adamw_losses": losses}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make("plain", n_layer=2, n_head=2, n_embd=32, vocab_size=65, n_positions=16,
         batch_size=3, seq_len=16, tokens=65)
    make("no_bias", n_layer=2, n_head=2, n_embd=32, vocab_size=65, n_positions=16,
         batch_size=3, seq_len=16, tokens=65, bias=False)
    # Three heads of eight, a padded table (50 of 56 rows used), a sequence shorter than the block.
    make("odd", n_layer=3, n_head=3, n_embd=24, vocab_size=56, n_positions=13,
         batch_size=2, seq_len=11, tokens=50)
    # The first sequence has few learned targets, the second none, the last two thirds.
    make("masked", n_layer=2, n_head=2, n_embd=32, vocab_size=65, n_positions=16,
         batch_size=3, seq_len=16, tokens=65, learned=[0.2, 0.0, 0.7])
    make("documents", n_layer=2, n_head=2, n_embd=32, vocab_size=65, n_positions=16,
         batch_size=3, seq_len=16, tokens=65, documents=[[0, 5, 6], [0], [0, 15]])
