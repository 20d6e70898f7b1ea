"""Several samples at once by `generate` of transformers: used by bench/decode.py.

    echo 100 | python bench/decode_hf.py '{"prompt":[1,2,3],"samples":10,"threads":2}' DIR

Every line of standard input is a number of tokens that each sample gets; the answer is a line of JSON with the seconds
that one of them took, for all samples together and with the prompt's share: temperature 0.8 and top-k 200 as in ours.
"""

import json
import sys
import time

import torch
from transformers import GPT2LMHeadModel


def main():
    given, folder = json.loads(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(given["threads"])
    torch.manual_seed(1337)
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = torch.tensor([given["prompt"]] * given["samples"])
    for line in sys.stdin:
        n = int(line)
        start = time.perf_counter()
        with torch.inference_mode():
            made = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=True,
                temperature=0.8,
                top_k=200,
                min_new_tokens=n,
                max_new_tokens=n,
                pad_token_id=0,
            )
        seconds = (time.perf_counter() - start) / n
        print(json.dumps({"seconds": [seconds], "shape": list(made.shape)}), flush=True)


if __name__ == "__main__":
    main()
