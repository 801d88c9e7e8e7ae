"""Serves the chat page, and passes what it asks on to a private fleet with a real small model.

Usage: page.py [--check]      (--check: plays a reader that reloads in the middle of an answer, and ends)
"""

import contextlib
import http.server
import json
import pathlib
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import quote

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from fleet import OPENER, Api, fleet, free_port  # noqa: E402

CONFIG = """
[pools.chat]
providers = ["smollm2"]

[providers.smollm2]
kind     = "openai"
base_url = "http://127.0.0.1:{port}/v1"
models   = ["smollm2-135m"]
"""
CHUNKS_BEFORE_RELOAD = 5


def handler(api: Api) -> type[http.server.BaseHTTPRequestHandler]:
    """A page of one origin: the API itself names no other that may call it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                self.forward(None)
                return
            page = (HERE / "index.html").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self) -> None:
            self.forward(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def forward(self, body: bytes | None) -> None:
            passed = {name: self.headers[name] for name in ("Content-Type", "Last-Event-ID") if self.headers[name]}
            request = urllib.request.Request(api.base + self.path, body, passed, method=self.command)
            try:
                answer = OPENER.open(request, timeout=600)
            except urllib.error.HTTPError as error:
                answer = error
            # A page that is reloaded is not there any more.
            with answer, contextlib.suppress(ConnectionError):
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
                self.end_headers()
                # As it comes: what is read in larger pieces would wait for them.
                while piece := answer.read1(65536):
                    self.wfile.write(piece)
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def read(api: Api, job: str, last: str, chunks: int | None) -> tuple[str, str, bool]:
    """Reads events after the id `last`, that many chunks or to the end: the text, the last id, whether it is the end."""
    text, kind = "", ""
    with OPENER.open(f"{api.base}/api/v1/jobs/{job}/events?last_event_id={quote(last)}", timeout=120) as lines:
        for line in lines:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                last = value
            elif name == "event":
                kind = value
            elif name == "data" and kind == "chunk":
                text += json.loads(value)["text"]
                chunks = chunks and chunks - 1
                if chunks == 0:
                    return text, last, False
            elif name == "data" and kind == "done":
                return text, last, True
    return text, last, False


def check(api: Api) -> None:
    """A reader of the page that reloads it in the middle of an answer has the whole of it, each piece once."""
    with OPENER.open(api.base, timeout=10) as page:
        if b"EventSource" not in page.read():
            raise SystemExit("*** FAILED: the page is not there")
    body = {"task": "chat", "input": {"user": "Tell me about rivers.", "max_tokens": 60, "temperature": 0}}
    job = api.call("/api/v1/jobs", body)["id"]
    before, last, _ = read(api, job, "", CHUNKS_BEFORE_RELOAD)
    print(f"==> before the reload: {before!r}", flush=True)
    after, _, ended = read(api, job, last, None)
    print(f"==> after it:          {after!r}")
    whole = api.call(f"/api/v1/jobs/{job}")["result"]["content"]
    if not ended or before + after != whole:
        raise SystemExit(f"*** FAILED: the answer is {whole!r}")
    print("==> together they are the answer, nothing missing and nothing twice")


def main() -> None:
    port = free_port()
    serve = [sys.executable, "scripts/model-server/serve.py", str(port)]
    with fleet(CONFIG.format(port=port), {"model": (serve, port)}) as api:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(api))
        if "--check" in sys.argv[1:]:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            check(Api(f"http://127.0.0.1:{server.server_port}"))
            return
        print(f"==> open http://127.0.0.1:{server.server_port}/ and reload while it answers; Ctrl-C ends", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
