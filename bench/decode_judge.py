"""The most likely next token by transformers in f64: decides when bench/decode.py gets two answers.

    python bench/decode_judge.py '[1,2,3]' DIR
"""

import json
import sys

import torch
from transformers import GPT2LMHeadModel

model = GPT2LMHeadModel.from_pretrained(sys.argv[2], dtype=torch.float64).eval()
with torch.inference_mode():
    print(int(model(torch.tensor([json.loads(sys.argv[1])])).logits[0, -1].argmax()))
