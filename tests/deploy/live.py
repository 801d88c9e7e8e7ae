"""Every expression of the dashboards and alerts against a real Prometheus that scrapes a real fleet under load."""

import json
import math
import re
import time
import unittest

import promql_parser
from fleet import Fleet, get, wait_until
from support import CHART, HELMS, render

LOAD_SECONDS = 12
BOARDS = sorted((CHART / "dashboards").glob("*.json"))


def expressions(board: dict) -> list[tuple[str, str, str]]:
    """Title, legend and expression of every query; the placeholders filled in as Grafana would."""
    found = []
    for panel in board["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "8s").replace("$pool", "chat")
            assert "$" not in filled, f"an unknown placeholder in {filled}"
            found.append((panel["title"], target["legendFormat"], filled))
    return found


def numbers(series: list[dict]) -> list[float]:
    values = [float(value) for one in series for _, value in one["values"]]
    return [value for value in values if not math.isnan(value)]


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = cls.enterClassContext(Fleet())
        with cls.fleet.load(per_second=10):
            wait_until("the first failed attempt that runs again", lambda: cls.fleet.query("sum(overshot_retried_total) > 0"))
            time.sleep(LOAD_SECONDS)
        cls.ended = time.time()

    def test_no_panel_is_empty(self):
        asked = 0
        for path in BOARDS:
            for title, legend, expression in expressions(json.loads(path.read_text())):
                with self.subTest(path.stem, panel=title, series=legend):
                    promql_parser.parse(expression)
                    series = self.fleet.query_range(expression, self.ended - LOAD_SECONDS / 2, self.ended, 1)
                    self.assertTrue(numbers(series), expression)
                    asked += 1
                    for label in re.findall(r"{{(\w+)}}", legend):
                        self.assertIn(label, series[0]["metric"], "the legend names a label that the series lacks")
        self.assertGreater(asked, 80)

    def test_an_expression_without_series_would_be_found(self):
        self.assertEqual(numbers(self.fleet.query_range("overshot_no_such_thing", self.ended - 5, self.ended, 1)), [])

    def test_the_rules_are_loaded_and_a_fleet_at_work_alerts_nobody(self):
        rules = wait_until("the rules' evaluation", self.evaluated)
        self.assertGreater(len(rules), 10)
        for rule in rules:
            self.assertEqual(rule.get("lastError", ""), "", rule["name"])
            self.assertNotEqual(rule["state"], "firing", rule["name"])
            if rule["name"] == "OvershotProviderDown":
                self.assertEqual(rule["state"], "inactive", "every worker has told of its providers")

    def evaluated(self) -> list[dict]:
        groups = get(f"{self.fleet.prometheus}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else []


@unittest.skipUnless(HELMS, "no helm")
class FromZero(unittest.TestCase):
    """What KEDA would see, asked the way that the chart tells it to."""

    def test_a_pool_without_workers_shows_demand_within_a_second_of_a_submit(self):
        keda = {"pools": {"chat": {"autoscaling": {"type": "keda"}}}}
        (trigger,) = render(keda).all("ScaledObject")[0]["spec"]["triggers"]
        asked, place = trigger["metadata"]["url"], trigger["metadata"]["valueLocation"]
        with Fleet(workers=0) as fleet:
            url = f"{fleet.api}/{asked.split('/', 3)[3]}"
            self.assertEqual(get(url)[place], 0)
            self.assertEqual(fleet.post("/api/v1/jobs", {"task": "chat", "pool": "chat", "input": {"user": "Hello."}}), 202)
            submitted = time.monotonic()
            wait_until("demand", lambda: get(url)[place] > int(trigger["metadata"]["activationTargetValue"]), patience=1)
            self.assertLess(time.monotonic() - submitted, 1)


if __name__ == "__main__":
    unittest.main()
