"""The alerts: each fires and does not, each has a runbook, and each asks for metrics that there are."""

import re
import unittest

import promql_parser
import yaml
from support import CHART, HELMS, ROOT, render, run, tool

RULES = ROOT / "deploy/prometheus/overshot.rules.yml"
CASES = ROOT / "tests/deploy/alerts.test.yml"


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def metrics() -> set[str]:
    """Every series that a process tells, as docs/METRICS.md lists them."""
    names = set()
    for name, kind in re.findall(r"^\| `(overshot_\w+)` \| (\w+) \|", (ROOT / "docs/METRICS.md").read_text(), re.M):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    assert len(names) > 30, names
    return names


class Alerts(unittest.TestCase):
    @unittest.skipUnless(tool("promtool"), "no promtool")
    def test_each_fires_when_it_should_and_only_then(self):
        done = run(tool("promtool"), "test", "rules", CASES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_is_tried_firing_and_not_firing(self):
        tried: dict[str, set[bool]] = {}
        for case in yaml.safe_load(CASES.read_text())["tests"]:
            for step in case["alert_rule_test"]:
                tried.setdefault(step["alertname"], set()).add(bool(step["exp_alerts"]))
        self.assertEqual(tried, {rule["alert"]: {True, False} for rule in rules()})

    def test_each_has_a_runbook_and_no_runbook_is_left_over(self):
        pages = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")}
        self.assertEqual(pages, {rule["alert"] for rule in rules()})
        for rule in rules():
            page = (ROOT / rule["annotations"]["runbook_url"]).read_text()
            for part in (f"# {rule['alert']}\n", "**Costs.**", "## Look\n", "## Do\n"):
                self.assertIn(part, page)

    def test_each_asks_for_metrics_that_there_are(self):
        for rule in rules():
            asked = set(re.findall(r"overshot_\w+", rule["expr"]))
            self.assertTrue(asked)
            self.assertLessEqual(asked, metrics(), rule["alert"])

    def test_each_has_its_settings_in_the_chart(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["prometheusRule"]["alerts"]
        self.assertEqual(set(values), {rule["alert"] for rule in rules()})

    @unittest.skipUnless(HELMS, "no helm")
    def test_the_chart_takes_thresholds_labels_and_a_selector(self):
        alert = "OvershotOldestJobOverTarget"
        on = {"enabled": True, "labels": {"release": "p"}, "runbookUrl": "https://r/", "alerts": {alert: {"threshold": 42, "for": "1m"}}}
        rule = render({"metrics": {"prometheusRule": on}}).get("PrometheusRule", "rel-overshot-alerts")
        self.assertEqual(rule["metadata"]["labels"]["release"], "p")
        (found,) = [one for one in rule["spec"]["groups"][0]["rules"] if one["alert"] == alert]
        self.assertIn('overshot_oldest_queued_seconds{namespace="ns"}) > 42', found["expr"])
        self.assertEqual((found["for"], found["annotations"]["runbook_url"]), ("1m", f"https://r/{alert}.md"))
        off = {"enabled": True, "alerts": {alert: {"enabled": False}}}
        left = render({"metrics": {"prometheusRule": off}}).get("PrometheusRule", "rel-overshot-alerts")
        self.assertNotIn(alert, [one["alert"] for one in left["spec"]["groups"][0]["rules"]])

    @unittest.skipUnless(HELMS, "no helm")
    def test_every_series_is_of_this_release_only(self):
        rule = render({"metrics": {"prometheusRule": {"enabled": True}}}).all("PrometheusRule")[0]
        for one in rule["spec"]["groups"][0]["rules"]:
            promql_parser.parse(one["expr"])
            for matchers in re.findall(r"overshot_\w+(\{[^}]*\})?", one["expr"]):
                self.assertIn('namespace="ns"', matchers, one["alert"])


if __name__ == "__main__":
    unittest.main()
