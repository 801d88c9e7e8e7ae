"""Speaks Ollama's HTTP API on 127.0.0.1 in front of servers that speak OpenAI's.

Usage: ollama_shim.py CHAT_URL [EMBEDDING_URL]      (base URLs that end in /v1)

Ollama itself comes in no package. This is our reading of its API (docs/api.md of github.com/ollama/ollama) over a real model, and
Ollama's own Python client checks the reading: check_ollama.py. Prints one line, the address it listens on, when it is ready. Ends
on SIGTERM or SIGINT, or when the process that started it is gone.
"""

import http.server
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request

CHAT_URL, EMBEDDING_URL = sys.argv[1], (sys.argv[2:] or [None])[0]
OPTIONS = {"num_predict": "max_tokens"}
PARENT_POLL_SECONDS = 0.5
loaded: set[str] = set()


def upstream(base: str, path: str, body: dict | None = None):
    """Asks a server behind this one; the answer is open for reading."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=600)


def models(base: str | None) -> list[str]:
    return [] if base is None else [model["id"] for model in json.load(upstream(base, "/models"))["data"]]


def plain(name: str) -> str:
    return name.removesuffix(":latest")


class Refused(Exception):
    """An answer that is no success: a status and Ollama's `error`."""


def chat_request(asked: dict) -> dict:
    """A request of /api/chat as a chat completion."""
    messages = [{"role": message["role"], "content": message.get("content", "")} for message in asked["messages"]]
    request = {"model": plain(asked["model"]), "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    for name, value in (asked.get("options") or {}).items():
        request[OPTIONS.get(name, name)] = value
    form = asked.get("format")
    if form == "json":
        request["response_format"] = {"type": "json_object"}
    elif form:
        request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
    return request


def chat_lines(asked: dict):
    """The answer of /api/chat, line by line."""
    def line(content: str, **more) -> dict:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"model": asked["model"], "created_at": stamp, "message": {"role": "assistant", "content": content}, "done": False, **more}

    usage, reason = {}, "stop"
    with upstream(CHAT_URL, "/chat/completions", chat_request(asked)) as answer:
        for event in answer:
            data = event.decode().removeprefix("data:").strip()
            if not data or data == "[DONE]":
                continue
            chunk = json.loads(data)
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                reason = choice.get("finish_reason") or reason
                if content := choice["delta"].get("content"):
                    yield line(content)
    counts = {"prompt_eval_count": usage.get("prompt_tokens", 0), "eval_count": usage.get("completion_tokens", 0)}
    yield line("", **{"done": True, "done_reason": reason, "total_duration": 1, **counts})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, lines) -> None:
        # The first line before the head: Ollama answers nothing before it knows that it can.
        first = next(lines)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in [first]:
            self.chunk(json.dumps(line).encode() + b"\n")
        for line in lines:
            self.chunk(json.dumps(line).encode() + b"\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def do_GET(self) -> None:
        if self.path == "/api/version":
            return self.answer({"version": "0.12.0"})
        names = models(CHAT_URL) + models(EMBEDDING_URL) if self.path == "/api/tags" else sorted(loaded)
        self.answer({"models": [{"name": name + ":latest", "model": name + ":latest", "size": 1, "digest": "", "details": {}} for name in names]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self.post(asked)
        except Refused as refused:
            self.answer({"error": refused.args[1]}, refused.args[0])
        except urllib.error.HTTPError as error:
            message = json.load(error).get("error", {})
            self.answer({"error": message.get("message", str(error)) if isinstance(message, dict) else message}, error.code)

    def post(self, asked: dict) -> None:
        model = plain(asked["model"])
        chats, embeds = model in models(CHAT_URL), model in models(EMBEDDING_URL)
        if not chats and not embeds:
            raise Refused(404, f"model '{asked['model']}' not found")
        if self.path == "/api/embed":
            if not embeds:
                raise Refused(501, "this model does not support embeddings")
            return self.embed(asked)
        if not chats:
            raise Refused(400, f"\"{asked['model']}\" does not support chat")
        loaded.add(model)
        if self.path == "/api/generate" or not asked.get("messages"):
            return self.answer({"model": asked["model"], "created_at": "1970-01-01T00:00:00Z", "response": "", "done": True, "done_reason": "load"})
        lines = chat_lines(asked)
        if asked.get("stream", True):
            return self.stream(lines)
        lines = list(lines)
        lines[-1]["message"]["content"] = "".join(line["message"]["content"] for line in lines)
        self.answer(lines[-1])

    def embed(self, asked: dict) -> None:
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        loaded.add(plain(asked["model"]))
        if texts in ([], [""]):
            return self.answer({"model": asked["model"], "embeddings": []})
        answer = json.load(upstream(EMBEDDING_URL, "/embeddings", {"model": plain(asked["model"]), "input": texts}))
        vectors = [item["embedding"] for item in answer["data"]]
        self.answer({"model": asked["model"], "embeddings": vectors, "prompt_eval_count": answer["usage"]["prompt_tokens"]})


def main() -> None:
    parent = os.getppid()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)


if __name__ == "__main__":
    main()
