"""Holds a server that speaks Ollama's API against Ollama's own client.

Usage: check_ollama.py URL CHAT_MODEL [EMBEDDING_MODEL]      (needs the package `ollama`)
"""

import json
import sys

import ollama

url, chat_model, embedding_models = sys.argv[1], sys.argv[2], sys.argv[3:]
client = ollama.Client(host=url)
messages = [{"role": "user", "content": "Name the capital of France."}]
options = {"num_predict": 12, "temperature": 0, "seed": 1}

listed = [model.model for model in client.list().models]
assert f"{chat_model}:latest" in listed, listed

whole = client.chat(model=chat_model, messages=messages, options=options)
assert whole.done and whole.message.content and whole.eval_count and whole.prompt_eval_count, whole

parts = list(client.chat(model=chat_model, messages=messages, options=options, stream=True))
assert parts[-1].done and parts[-1].done_reason in ("stop", "length"), parts[-1]
assert not any(part.done for part in parts[:-1]) and len(parts) > 2, len(parts)
assert "".join(part.message.content for part in parts) == whole.message.content

schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
formed = client.chat(model=chat_model, messages=messages, format=schema, options={"num_predict": 60, "temperature": 0})
assert isinstance(json.loads(formed.message.content)["city"], str), formed.message.content

assert chat_model in [model.model.removesuffix(":latest") for model in client.ps().models]

try:
    client.chat(model="no-such-model", messages=messages)
    raise AssertionError("a model that is not there answered")
except ollama.ResponseError as error:
    assert error.status_code == 404 and "not found" in error.error, error

for model in embedding_models:
    vectors = client.embed(model=model, input=["a cat", "a kitten"]).embeddings
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 1, len(vectors)

print(f"{url} answers as Ollama does")
