"""What the tests of this folder share: where things are, and the chart rendered with values of one's own."""

import functools
import json
import os
import pathlib
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/overshot"
TOOLS = pathlib.Path(os.environ.get("OVERSHOT_DEPLOY_TOOLS", ROOT / ".tools/deploy"))
BIN = TOOLS / "bin"
# Both majors; a test that does not say otherwise renders with the newest that is there.
HELMS = [helm for helm in ("helm4", "helm3") if (BIN / helm).exists()]
# The oldest that the chart says it runs on and that is still checked for, and the newest known.
KUBERNETES = ("1.32", "1.37")

TRIAL = {"redis": {"trial": {"enabled": True}}}


def tool(name: str) -> pathlib.Path | None:
    """A program of `scripts/deploy/install`, if it could be had."""
    path = BIN / name
    return path if path.exists() else None


def merge(*layers: dict) -> dict:
    """Values over values, as Helm lays them."""
    out: dict = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merge(out[key], value) if both else value
    return out


def run(*arguments: object) -> subprocess.CompletedProcess:
    """A program's answer; Helm keeps its caches out of the home directory."""
    homes = {f"HELM_{kind}_HOME": str(TOOLS / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    return subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **homes},
        timeout=60,
    )


def helm_template(values: dict, helm: str | None = None, release: str = "rel") -> subprocess.CompletedProcess:
    """`helm template`, whatever it answers."""
    return _helm_template(json.dumps(values), helm, release)


@functools.cache
def _helm_template(values: str, helm: str | None, release: str) -> subprocess.CompletedProcess:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(values)
        file.flush()
        program = BIN / (helm or HELMS[0])
        return run(program, "template", release, CHART, "--namespace", "ns", "--values", file.name)


class Rendered:
    """The objects of a chart rendered with `values`."""

    def __init__(self, values: dict, helm: str | None = None, release: str = "rel"):
        done = helm_template(values, helm, release)
        if done.returncode:
            raise AssertionError(f"the chart does not render: {done.stderr}")
        self.text = done.stdout
        self.objects = [document for document in yaml.safe_load_all(done.stdout) if document]

    def kinds(self) -> list[str]:
        return sorted({thing["kind"] for thing in self.objects})

    def all(self, kind: str) -> list[dict]:
        return [thing for thing in self.objects if thing["kind"] == kind]

    def names(self, kind: str) -> list[str]:
        return [thing["metadata"]["name"] for thing in self.all(kind)]

    def get(self, kind: str, name: str) -> dict:
        found = [thing for thing in self.all(kind) if thing["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}; there are {self.names(kind)}"
        return found[0]

    def pod(self, name: str) -> dict:
        """The pod's spec of a Deployment."""
        return self.get("Deployment", name)["spec"]["template"]["spec"]

    def env(self, name: str) -> dict:
        """The variables of a Deployment's first container: values, or where they come from."""
        listed = self.pod(name)["containers"][0]["env"]
        assert len({entry["name"] for entry in listed}) == len(listed), f"a variable is set twice: {listed}"
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in listed}


def render(*layers: dict, **options: str) -> Rendered:
    """The chart with a trial Redis, unless `layers` name another one."""
    values = merge(*layers)
    named = {"url", "existingSecret"} & values.get("redis", {}).keys()
    return Rendered(values if named else merge(TRIAL, values), **options)
