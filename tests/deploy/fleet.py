"""A real fleet under load, and a real Prometheus that scrapes it: private processes on free ports, gone with the context."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from support import BIN, ROOT

PROGRAMS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
PATIENCE_SECONDS = 60

CONFIG = """
[worker]
liveness = "2s"
drain    = "2s"

[pools.chat]
providers   = ["first", "second"]
concurrency = 4

[pools.chat.retry]
provider_error = "1s"

[pools.bulk]
providers   = ["first"]
concurrency = 2

[providers.first]
kind       = "simulated"
models     = ["small", "large"]
tokens     = 20
pace       = "20ms"
error_rate = 0.1
max_in_flight = 12
tokens_per_minute = 100000
breaker    = { failures = 1000 }

[providers.second]
kind   = "simulated"
models = ["other"]
tokens = 40
pace   = "5ms"
"""


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what: str, ready, patience: float = PATIENCE_SECONDS):
    """What `ready` gives, once it is something."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := ready():
                return found
        time.sleep(0.05)
    raise AssertionError(f"{what} took longer than {patience} s")


def get(url: str) -> dict:
    # Without the machine's proxies: all of this is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        return json.load(answer)


class Fleet:
    """An API, workers, Redis and Prometheus, on 127.0.0.1."""

    def __init__(self, workers: int = 2, scrape_seconds: float = 1):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="overshot-live-"))
        self.processes: dict[str, subprocess.Popen] = {}
        self.worker_ports = [free_port() for _ in range(workers)]
        self.api_port, self.prometheus_port = free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.api_port}"
        self.prometheus = f"http://127.0.0.1:{self.prometheus_port}"
        self.scrape_seconds = scrape_seconds

    def __enter__(self) -> "Fleet":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def _start(self):
        redis = self.folder / "redis.sock"
        self._run("redis", "redis-server", "--port", 0, "--unixsocket", redis, "--dir", self.folder, "--appendonly", "yes",
                  "--save", "", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction")
        wait_until("redis-server", redis.exists)
        config = self.folder / "overshot.toml"
        config.write_text(CONFIG)
        self.env = {"OVERSHOT_CONFIG": str(config), "OVERSHOT_REDIS_URL": f"unix://{redis}"}
        api = {**self.env, "OVERSHOT_HTTP_ADDR": f"127.0.0.1:{self.api_port}"}
        self._run("api", PROGRAMS / "overshot-api", env=api)
        for number in range(len(self.worker_ports)):
            self.start_worker(number)
        for port in [self.api_port, *self.worker_ports]:
            wait_until(f"port {port}", lambda: get(f"http://127.0.0.1:{port}/readyz"))
        self._run("prometheus", BIN / "prometheus", f"--config.file={self._prometheus_config()}",
                  f"--storage.tsdb.path={self.folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{self.prometheus_port}")
        targets = 1 + len(self.worker_ports)
        wait_until("prometheus", lambda: len(self.query("up == 1")) == targets)

    def _prometheus_config(self) -> pathlib.Path:
        def job(name: str, ports: list[int]) -> dict:
            return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}

        config = {
            "global": {"scrape_interval": f"{self.scrape_seconds}s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": [str(ROOT / "deploy/prometheus/overshot.rules.yml")],
            "scrape_configs": [job("overshot-api", [self.api_port]), job("overshot-worker", self.worker_ports)],
        }
        path = self.folder / "prometheus.json"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def _run(self, name: str, *command: object, env: dict[str, str] | None = None):
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command],
                env={"PATH": os.environ["PATH"], **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start_worker(self, number: int):
        env = {**self.env, "OVERSHOT_WORKER_HTTP_ADDR": f"127.0.0.1:{self.worker_ports[number]}"}
        self._run(f"worker-{number}", PROGRAMS / "overshot-worker", env=env)

    def stop_worker(self, number: int, how: signal.Signals):
        process = self.processes[f"worker-{number}"]
        process.send_signal(how)
        process.wait()

    def post(self, path: str, body: dict | None = None) -> int:
        """The status of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body or {}), {"Content-Type": "application/json"})
            return connection.getresponse().status

    def query(self, expression: str) -> list[dict]:
        """What Prometheus answers now."""
        answer = get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        return answer["data"]["result"]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict]:
        asked = {"query": expression, "start": start, "end": end, "step": step}
        return get(f"{self.prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}")["data"]["result"]

    @contextlib.contextmanager
    def load(self, per_second: float, seed: int = 1):
        """Jobs of all sorts, until the context ends. `per_second` may be changed meanwhile through what is given."""
        draw, ended, state = random.Random(seed), threading.Event(), {"per_second": per_second}

        def job() -> dict:
            pool = draw.choices(["chat", "bulk"], [5, 1])[0]
            model = draw.choice(["small", "large", "other"] if pool == "chat" else ["small"])
            body = {"task": "chat", "pool": pool, "model": model, "input": {"user": "Say hello."}}
            body["priority"] = draw.choices(["high", "normal", "low"], [1, 4, 2])[0]
            if draw.random() < 0.1:
                body["delay"] = "2s"
            return body

        def submit():
            while not ended.wait(draw.expovariate(state["per_second"])):
                with contextlib.suppress(OSError):
                    self.post("/api/v1/jobs", job())

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            yield state
        finally:
            ended.set()
            thread.join()
