"""A private fleet for an example: `overshot dev` over a Redis of its own, and model servers beside it.

Everything ends with the `with` block. Only the standard library is used.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

START_SECONDS_MAX = 60
# Whatever proxy the environment names, the fleet is on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Asks the kernel for a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(command: list[str], log: pathlib.Path, env: dict[str, str] | None = None):
    """A program whose output goes to a file; ended, and waited for, at the end."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(port: int, child: subprocess.Popen, log: pathlib.Path) -> None:
    """Until something listens; with the program's last words where it ended instead."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and child.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"*** FAILED: {log.stem} did not start:\n{log.read_text()[-2000:]}")


class Api:
    """The API of the fleet."""

    def __init__(self, base: str) -> None:
        self.base = base

    def call(self, path: str, body: object | None = None) -> dict:
        """One request, with JSON or without a body."""
        return self.post(path, None if body is None else json.dumps(body).encode(), "application/json")

    def post(self, path: str, data: bytes | None, content_type: str) -> dict:
        """One request; what the API refuses ends the example, with what it says."""
        request = urllib.request.Request(self.base + path, data, {"Content-Type": content_type})
        try:
            with OPENER.open(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"*** FAILED: {path}: {error.read().decode()}") from error

    def events(self, job: str):
        """The job's events as they come: kind and data."""
        with OPENER.open(f"{self.base}/api/v1/jobs/{job}/events", timeout=600) as lines:
            kind = ""
            for line in lines:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)


@contextlib.contextmanager
def fleet(config: str, servers: dict[str, tuple[list[str], int]]):
    """Model servers (by name: command and port), Redis, API and worker; gives the API."""
    # So that SIGTERM, too, leaves through the blocks that end what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overshot-example-")))

        def start(name: str, command: list[str], port: int, env: dict[str, str] | None = None) -> None:
            log = folder / f"{name}.log"
            wait_for(port, stack.enter_context(process(command, log, env)), log)

        for name, (command, port) in servers.items():
            start(name, command, port)
        (folder / "overshot.toml").write_text(config)
        port = free_port()
        command = [os.environ["OVERSHOT_BIN"], "dev", "--config", f"{folder}/overshot.toml", "--data", f"{folder}/data"]
        start("overshot", command, port, {"OVERSHOT_HTTP_ADDR": f"127.0.0.1:{port}", "OVERSHOT_WORKER_HTTP_ADDR": "127.0.0.1:0"})
        yield Api(f"http://127.0.0.1:{port}")
