"""Everything that the chart renders, against the schemas of Kubernetes, KEDA and the Prometheus operator; no field unknown."""

import json
import pathlib
import unittest

import kubernetes_validate
import yaml
from jsonschema import Draft7Validator
from support import CHART, HELMS, KUBERNETES, TRIAL, BIN, merge, render, run
from test_chart import SECRET, everything, keda, worker

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in pathlib.Path(__file__).with_name("schemas").glob("*.json")}


def mistakes(thing: dict) -> list[str]:
    """What is wrong with an object."""
    kind = thing["kind"]
    if kind in SCHEMAS:
        return [f"{error.json_path}: {error.message}" for error in Draft7Validator(SCHEMAS[kind]).iter_errors(thing)]
    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
    return found


VARIANTS = {
    "plain": {},
    "everything": everything(),
    "prometheus": merge(keda(trigger="prometheus", prometheus={"serverAddress": "http://p"})),
    "streams": merge(keda(trigger="redis-streams", redisStreams={"shards": 2, "authenticationName": "a"})),
    "demand with a token": merge(keda(), SECRET),
    "hpa": worker(autoscaling={"type": "hpa", "minReplicas": 1}),
    "a redis elsewhere": {"redis": {"url": "redis+sentinel://s:1,t:1/main", "passwordSecret": "p", "allowUnsafe": True}},
}


@unittest.skipUnless(HELMS, "no helm")
class Schemas(unittest.TestCase):
    def test_every_object_of_every_variant_is_valid(self):
        for name, values in VARIANTS.items():
            for thing in render(values).objects:
                with self.subTest(name, kind=thing["kind"], name=thing["metadata"]["name"]):
                    self.assertEqual(mistakes(thing), [])

    def test_a_misspelt_field_would_be_found(self):
        rendered = render(VARIANTS["everything"])
        for kind, place in [("Deployment", "replica"), ("ScaledObject", "pollInterval"), ("PodMonitor", "endpoints")]:
            thing = rendered.all(kind)[0]
            thing["spec"][place] = 1
            self.assertTrue(mistakes(thing), kind)

    def test_helm_lint_is_content(self):
        for helm in HELMS:
            done = run(BIN / helm, "lint", "--strict", "--set", "redis.trial.enabled=true", CHART)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Values(unittest.TestCase):
    def test_the_schema_names_every_value_and_no_other(self):
        schema = json.loads((CHART / "values.schema.json").read_text())

        def resolve(part: dict) -> dict:
            return schema["definitions"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part

        def compare(values: dict, part: dict, place: str):
            part = resolve(part)
            if "properties" not in part:
                return
            self.assertIs(part["additionalProperties"], False, place)
            # Not every alert has a threshold.
            named = set(part["properties"]) - {"global"} - ({"threshold"} - set(values))
            self.assertEqual(set(values), named, place)
            for key, value in values.items():
                if isinstance(value, dict):
                    compare(value, part["properties"][key], f"{place}.{key}")

        compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "values")


if __name__ == "__main__":
    unittest.main()
