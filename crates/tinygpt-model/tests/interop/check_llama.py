"""Checks that llama.cpp reads the GGUF files that TinyGPT writes, and computes the same.

    python check_llama.py out-quickstart/best
    python check_llama.py --prompt "Once upon a time" out-quickstart/best out-mine/best

For each directory and each type: `sample --export gguf` writes the file and llama.cpp loads it. Its tokenizer must give
our ids (the example `ids` of tinygpt-data) for texts of all kinds, and their pieces must be the text's bytes again. In
f32 its greedy 100 tokens must be ours (the example `decode`), but where our two best logits are at most 1e-3
apart the paths may part: llama.cpp takes the GELU from a table of half-precision numbers. For f16 and q8_0 the share of
equal tokens is printed.

Needs llama-cpp-python and numpy; run with llama-cpp-python 0.3.36.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import tempfile

import llama_cpp
import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
N_TOKENS = 100
NEAR = 1e-3

TEXTS = [
    "Once upon a time, there was a little owl.",
    "  two  spaces,\ttabs\n\nand lines \n ",
    "It's the owls' house; they're 1234567 years old!",
    "naïve café — “über” … ½ 漢字かな ☃ 🦀",
    "\u00a0\u3000unusual spaces\u200b and a \r\n line",
    "<|endoftext|>Two documents.<|endoftext|>",
    "x" * 70,
    "Ａ\u0301e\u0301 ﬁ \u202e right to left",
]


def cargo(*arguments, given=None):
    command = ["cargo", "run", "--quiet", *map(str, arguments)]
    result = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, input=given)
    return result.stdout


class Llama:
    """A GGUF file through llama.cpp's C functions, on the CPU, keys and values in f32."""

    def __init__(self, path, block_size):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, f"llama.cpp does not load {path}"
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = block_size
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def encode(self, text):
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), room, len(room), True, True)
        assert n >= 0
        return list(room[:n])

    def pieces(self, ids):
        room, found = ctypes.create_string_buffer(512), b""
        for i in ids:
            n = llama_cpp.llama_token_to_piece(self.vocab, i, room, len(room), 0, True)
            assert n >= 0
            found += room.raw[:n]
        return found

    def greedy(self, prompt, n_tokens):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        ids, new = [], prompt
        for _ in range(n_tokens):
            tokens = (llama_cpp.llama_token * len(new))(*new)
            assert llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(new))) == 0
            logits = llama_cpp.llama_get_logits_ith(self.context, -1)
            new = [int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())]
            ids += new
        return ids

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def check_tokenizer(llama, directory):
    n_ids = 0
    for text in TEXTS:
        ours = json.loads(cargo("-p", "tinygpt-data", "--example", "ids", "--", directory, text))
        theirs = llama.encode(text)
        assert ours == theirs, f"ids of {text!r} differ:\n{ours} ours\n{theirs} theirs"
        assert llama.pieces(theirs) == text.encode(), f"{text!r} comes back as {llama.pieces(theirs)!r}"
        n_ids += len(ours)
    eos = llama_cpp.llama_vocab_eos(llama.vocab)
    assert llama.pieces([eos]) == b"<|endoftext|>"
    assert llama_cpp.llama_vocab_is_eog(llama.vocab, eos)
    print(f"  {n_ids} ids of {len(TEXTS)} texts agree, and come back as the text")


def check(directory, prompt_text):
    directory = directory.resolve()
    block_size = json.loads((directory / "config.json").read_text())["n_positions"]
    print(directory)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("f32", "f16", "q8_0"):
            path = pathlib.Path(folder) / f"{kind}.gguf"
            cargo("--bin", "sample", "--", "--checkpoint", directory, "--export", "gguf", path, "--type", kind)
            llama = Llama(path, block_size)
            if kind == "f32":
                check_tokenizer(llama, directory)
                prompt = llama.encode(prompt_text)
                n_tokens = min(N_TOKENS, block_size - len(prompt))
                given = json.dumps({"prompt": prompt, "samples": 1, "threads": 1})
                example = ["-p", "tinygpt-model", "--example", "decode", "--", given, directory]
                ours = json.loads(cargo(*example, given=f"{n_tokens}\n"))
            theirs = llama.greedy(prompt, n_tokens)
            n_same = next((i for i in range(n_tokens) if ours["ids"][i] != theirs[i]), n_tokens)
            gap = ours["gaps"][n_same] if n_same < n_tokens else None
            outcome = f"the greedy {n_tokens} tokens are the same"
            if gap is not None:
                outcome = f"the first {n_same} of {n_tokens} greedy tokens are the same, then our best two are {gap:.1e} apart"
            print(f"  {kind}: {path.stat().st_size:,} bytes, {outcome}")
            assert kind != "f32" or gap is None or gap <= NEAR
            llama.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directories", nargs="+", type=pathlib.Path)
    parser.add_argument("--prompt", default="One day, the")
    arguments = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    for path in arguments.directories:
        check(path, arguments.prompt)
