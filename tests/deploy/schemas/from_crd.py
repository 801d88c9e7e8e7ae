"""Turns CustomResourceDefinitions into strict JSON schemas, as they lie beside this file.

Usage: from_crd.py FILE.yaml...      (writes KIND.json for each)

The sources are Apache-2.0: KEDA 2.20.2, config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml, and
prometheus-operator 0.93.0, example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,
prometheusrules}.yaml. Descriptions and status are left out, and a field that a schema does not name is a mistake, as
with `kubectl apply --validate=strict`.
"""

import json
import pathlib
import sys

import yaml

KEPT = {"type", "properties", "items", "required", "enum", "pattern", "minimum", "maximum", "minItems", "maxItems"}
KEPT |= {"minLength", "maxLength", "anyOf", "oneOf", "allOf", "not", "additionalProperties"}


def strict(schema: dict) -> dict:
    """The schema without prose, closed wherever it lists fields."""
    out = {}
    for key, value in schema.items():
        if key not in KEPT:
            continue
        if key == "properties":
            value = {name: strict(field) for name, field in value.items()}
        elif isinstance(value, dict):
            value = strict(value)
        elif key.endswith("Of"):
            value = [strict(option) for option in value]
        out[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in out and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


def main() -> None:
    for path in sys.argv[1:]:
        crd = yaml.safe_load(pathlib.Path(path).read_text())
        version = next(version for version in crd["spec"]["versions"] if version["storage"])
        schema = strict(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
        schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        kind = crd["spec"]["names"]["kind"]
        schema["properties"]["apiVersion"] = {"enum": [f"{crd['spec']['group']}/{version['name']}"]}
        schema["properties"]["kind"] = {"enum": [kind]}
        out = pathlib.Path(__file__).with_name(f"{kind}.json")
        out.write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
