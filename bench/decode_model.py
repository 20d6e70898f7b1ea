"""Creates the model that bench/decode.py measures: random weights of a shape, for TinyGPT, transformers and llama.cpp.

    python bench/decode_model.py '{"n_layer":6,"n_head":6,"n_embd":384,"block_size":256,"vocab_size":30000}' DIR

Leaves DIR/{config.json,model.safetensors,tokenizer.json} and DIR/model.gguf with the same f32 values. The weights are
larger than at the start of training, so that the most likely token changes from position to position and is seldom a tie.
The tokenizer is a byte-level BPE of the wanted size whose tokens are runs of letters: it costs what a real one costs to
load.
"""

import itertools
import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

END_OF_TEXT = "<|endoftext|>"


def weights(s):
    """The weights under GPT-2's names; matrices are [in, out]."""
    random, c = np.random.default_rng(1337), s["n_embd"]

    def normal(*shape):
        return random.standard_normal(shape, dtype=np.float32) * np.float32(1.5 / c**0.5)

    found = {"wte.weight": normal(s["vocab_size"], c), "wpe.weight": normal(s["block_size"], c)}
    for i in range(s["n_layer"]):
        h = f"h.{i}."
        found |= {h + "attn.c_attn.weight": normal(c, 3 * c), h + "attn.c_attn.bias": normal(3 * c)}
        found |= {h + "attn.c_proj.weight": normal(c, c), h + "attn.c_proj.bias": normal(c)}
        found |= {h + "mlp.c_fc.weight": normal(c, 4 * c), h + "mlp.c_fc.bias": normal(4 * c)}
        found |= {h + "mlp.c_proj.weight": normal(4 * c, c), h + "mlp.c_proj.bias": normal(c)}
        for norm in ("ln_1", "ln_2"):
            found |= {f"{h}{norm}.weight": 1 + normal(c), f"{h}{norm}.bias": normal(c)}
    return found | {"ln_f.weight": 1 + normal(c), "ln_f.bias": normal(c)}


def byte_characters():
    """The printable character that byte-level BPE writes for each byte, as GPT-2 chose them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tokenizer(vocab_size):
    """A tokenizer.json: bytes, the end of text, then letters joined to what came before."""
    tokens = [*byte_characters(), END_OF_TEXT]
    known, merges = set(tokens), []
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    for first in itertools.chain(letters, (token for token in tokens if len(token) > 1 and token.isalpha())):
        for last in letters:
            if len(tokens) < vocab_size and first + last not in known:
                merges.append([first, last])
                tokens.append(first + last)
                known.add(first + last)
        if len(tokens) == vocab_size:
            break
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    special = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": END_OF_TEXT, **special, "special": True}],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges},
    }


def hugging_face_config(s):
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_layer": s["n_layer"],
        "n_head": s["n_head"],
        "n_embd": s["n_embd"],
        "n_positions": s["block_size"],
        "vocab_size": s["vocab_size"],
        "bos_token_id": 256,
        "eos_token_id": 256,
    }


# GPT-2's names in Hugging Face files and in GGUF; matrices are [out, in] there.
GGUF_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def gguf_tensors(values):
    for name, value in values.items():
        if name == "wte.weight":
            yield "token_embd.weight", value
        elif name == "wpe.weight":
            yield "position_embd.weight", value
        elif name.startswith("ln_f"):
            yield name.replace("ln_f", "output_norm"), value
        else:
            _, layer, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            yield f"blk.{layer}.{GGUF_NAMES[part]}.{kind}", np.ascontiguousarray(value.T)


def write_gguf(path, s, values, tokens, merges):
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(s["n_layer"])
    writer.add_context_length(s["block_size"])
    writer.add_embedding_length(s["n_embd"])
    writer.add_feed_forward_length(4 * s["n_embd"])
    writer.add_head_count(s["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    for name, value in gguf_tensors(values):
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    s, folder = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    values, spoken = weights(s), tokenizer(s["vocab_size"])
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(hugging_face_config(s)))
    (folder / "tokenizer.json").write_text(json.dumps(spoken))
    model = spoken["model"]
    write_gguf(folder / "model.gguf", s, values, list(model["vocab"]), model["merges"])


if __name__ == "__main__":
    main()
