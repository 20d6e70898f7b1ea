#!/usr/bin/env python3
"""OpenAI's own Python client against a running server: `client.py URL [KEY]`.

    cargo run --bin sample -- --out-dir out-quickstart --serve
    pip install openai
    python crates/tinygpt-serve/tests/python/client.py http://127.0.0.1:8080
"""

import sys

import openai

url, key = sys.argv[1], (sys.argv[2:] or ["none"])[0]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
[model] = [model.id for model in client.models.list()]
print("model", model)
assert client.models.retrieve(model).id == model


def complete(**fields):
    fields = {"model": model, "prompt": "One day", "max_tokens": 24, "seed": 3, **fields}
    return client.completions.create(**fields)


whole = complete()
assert whole.object == "text_completion" and len(whole.choices) == 1
assert whole.usage.completion_tokens <= 24 and whole.choices[0].finish_reason in ("stop", "length")
print("completion", repr(whole.choices[0].text))

chunks = list(complete(stream=True, stream_options={"include_usage": True}))
text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
assert text == whole.choices[0].text, text
assert len(chunks) > 5 and chunks[-1].usage == whole.usage
print("stream", len(chunks), "chunks")

answer = complete(logprobs=3, temperature=0.5).choices[0]
assert len(answer.logprobs.tokens) == len(answer.logprobs.token_logprobs) > 0
assert all(3 <= len(top) <= 4 for top in answer.logprobs.top_logprobs)
print("logprobs", answer.logprobs.tokens[0], answer.logprobs.top_logprobs[0])

echoed = complete(logprobs=1, echo=True, max_tokens=0).choices[0]
assert echoed.text == "One day" and echoed.logprobs.token_logprobs[:1] == [None]
assert all(value <= 0 for value in echoed.logprobs.token_logprobs[1:])
print("echo", echoed.logprobs.tokens, echoed.logprobs.token_logprobs)

several = complete(n=3, prompt=["One day", "At night"])
assert [choice.index for choice in several.choices] == list(range(6))
assert several.choices[0].text == whole.choices[0].text
assert len({choice.text for choice in several.choices}) > 1
print("n", len(several.choices))

stop = text[8:12]
cut = complete(stop=[stop]).choices[0]
assert cut.text == text[: text.index(stop)] and cut.finish_reason == "stop"
extra = complete(temperature=1.5, extra_body={"top_k": 1}).choices[0].text
assert extra == complete(temperature=0).choices[0].text
print("stop and extra fields")

for error, status, fields in [
    (openai.NotFoundError, 404, {"model": "another"}),
    (openai.BadRequestError, 400, {"temperature": 9}),
    (openai.BadRequestError, 400, {"suffix": "x"}),
    (openai.BadRequestError, 400, {"logprobs": 50}),
]:
    try:
        complete(**fields)
    except error as raised:
        assert raised.status_code == status and raised.type == "invalid_request_error"
        print("error", status, raised.body["message"])
    else:
        raise AssertionError(f"{fields} passed")


def chat(*contents, **fields):
    roles = ["user", "assistant"]
    messages = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return client.chat.completions.create(model=model, messages=messages, seed=3, **fields)


try:
    answer = chat("Hello")
except openai.BadRequestError as raised:
    assert raised.code == "no_chat_template", raised
    print("chat", raised.body["message"])
else:
    [choice] = answer.choices
    assert answer.object == "chat.completion" and choice.message.role == "assistant"
    chunks = list(chat("Hello", stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant" and "".join(d.content or "" for d in deltas) == choice.message.content
    assert chunks[-1].usage == answer.usage and chunks[-2].choices[0].finish_reason == choice.finish_reason
    two = chat("Hello", choice.message.content, "And then?", n=2, max_completion_tokens=8, logprobs=True, top_logprobs=2)
    tokens = two.choices[1].logprobs.content
    assert len(two.choices) == 2 and all(len(token.top_logprobs) == 2 for token in tokens)
    assert bytes(byte for token in tokens for byte in token.bytes).decode(errors="replace")
    print("chat", repr(choice.message.content), choice.finish_reason, len(chunks), "chunks")
if key != "none":
    try:
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as raised:
        assert raised.code == "invalid_api_key"
        print("error 401", raised.body["message"])
    else:
        raise AssertionError("a wrong key passed")
print("all as it should be")
