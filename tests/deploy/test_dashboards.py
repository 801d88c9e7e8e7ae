"""The dashboards: every expression parses and asks for metrics that there are. tests/deploy/live.py runs them."""

import json
import re
import unittest

import promql_parser
from support import CHART, HELMS, render
from test_alerts import metrics

BOARDS = {path.stem: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")}


def targets():
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


class Dashboards(unittest.TestCase):
    def test_every_expression_parses(self):
        for place, expression in targets():
            with self.subTest(place):
                promql_parser.parse(expression.replace("$__rate_interval", "5m").replace("$pool", "chat"))
        with self.assertRaises(ValueError):
            promql_parser.parse("sum(rate(overshot_jobs[5m])")

    def test_every_expression_asks_for_metrics_that_there_are(self):
        for place, expression in targets():
            with self.subTest(place):
                asked = set(re.findall(r"overshot_\w+", expression))
                self.assertTrue(asked)
                self.assertLessEqual(asked, metrics())

    def test_a_gauge_that_every_api_tells_is_never_summed_over_processes(self):
        shared = "jobs|queued_jobs|queued_bytes|oldest_queued_seconds|demand|live_workers|paused|provider_\\w+|pool_provider_info"
        for place, expression in targets():
            for gauge in re.finditer(rf"(\w+ by \([\w, ]+\) |\w+)\(overshot_({shared})(?![a-z_])", expression):
                self.assertTrue(gauge[1].startswith("max"), f"{place}: {expression}")

    def test_panels_do_not_overlap_and_titles_are_told_apart(self):
        for name, board in BOARDS.items():
            taken = set()
            for panel in board["panels"]:
                at = panel["gridPos"]
                self.assertLessEqual(at["x"] + at["w"], 24)
                cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
                self.assertFalse(cells & taken, f"{name}: {panel['title']}")
                taken |= cells
            titles = [panel["title"] for panel in board["panels"]]
            self.assertEqual(len(titles), len(set(titles)), name)

    @unittest.skipUnless(HELMS, "no helm")
    def test_the_chart_hands_each_to_grafanas_side_car(self):
        on = {"enabled": True, "annotations": {"folder": "Overshot"}}
        maps = [m for m in render({"metrics": {"dashboards": on}}).all("ConfigMap") if "dashboard" in m["metadata"]["name"]]
        self.assertEqual(len(maps), len(BOARDS))
        for one in maps:
            ((file, text),) = one["data"].items()
            self.assertEqual(json.loads(text), BOARDS[file.removesuffix(".json")])
            self.assertEqual(one["metadata"]["labels"]["grafana_dashboard"], "1")
            self.assertEqual(one["metadata"]["annotations"], {"folder": "Overshot"})


if __name__ == "__main__":
    unittest.main()
