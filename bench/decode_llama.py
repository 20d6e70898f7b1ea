"""Greedy decoding by llama.cpp through its C functions: used by bench/decode.py.

    echo 100 | python bench/decode_llama.py '{"prompt":[1,2,3],"block_size":256,"threads":2}' DIR/model.gguf

Every line of standard input is a number of tokens to make after the prompt; the answer is a line of JSON with the ids
and the seconds of each token but the first: one llama_decode and the choice of the largest logit.
"""

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np


def main():
    given, path = json.loads(sys.argv[1]), sys.argv[2]
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = given["block_size"]
    params.n_threads = params.n_threads_batch = given["threads"]
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, params)
    memory = llama_cpp.llama_get_memory(context)
    vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def read(ids):
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(ids))) != 0:
            sys.exit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (vocab_size,)).argmax())

    for line in sys.stdin:
        llama_cpp.llama_memory_clear(memory, True)
        ids, seconds = [read(given["prompt"])], []
        for _ in range(int(line) - 1):
            start = time.perf_counter()
            ids.append(read(ids[-1:]))
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "ids": ids}), flush=True)


if __name__ == "__main__":
    main()
