"""Renders the dashboards into docs/images, from what a real Prometheus has scraped of a real fleet in an eventful three minutes.

Usage: PYTHONPATH=tests/deploy .tools/deploy/venv/bin/python -B scripts/deploy/pictures.py
       (after: cargo build --bins; .tools/deploy/venv/bin/python -m pip install matplotlib==3.11.2)

It stands in for Grafana, of which no package can be had: the same panels, expressions, legends and places, drawn by
matplotlib.
"""

import json
import math
import re
import signal
import time

import matplotlib
from fleet import Fleet
from support import CHART, ROOT

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the back end comes first

STEP_SECONDS = 2
UNIT_INCHES = 0.62
DARK, PANEL, TEXT, GRID = "#111217", "#181b1f", "#ccccdc", "#2c3235"
COLOURS = ["#73bf69", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#fade2a", "#8ab8ff", "#ffa6b0", "#96d98d", "#37872d"]


def story(fleet: Fleet) -> tuple[float, float]:
    """Quiet, a burst, a killed worker, a drained one, a pause: what each looks like."""
    start = time.time()
    with fleet.load(per_second=8) as load:
        time.sleep(40)
        load["per_second"] = 30
        time.sleep(25)
        fleet.stop_worker(0, signal.SIGKILL)
        time.sleep(20)
        fleet.start_worker(0)
        load["per_second"] = 10
        time.sleep(30)
        fleet.stop_worker(1, signal.SIGTERM)
        fleet.start_worker(1)
        time.sleep(15)
        fleet.post("/api/v1/pools/bulk/pause")
        time.sleep(20)
        fleet.post("/api/v1/pools/bulk/resume")
        time.sleep(20)
    return start + 5, time.time()


def shown(value: float, unit: str) -> str:
    """A number with its unit, as short as Grafana has it."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    suffix = {"bytes": "B", "cps": "/s", "reqps": "/s"}.get(unit, "")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}{suffix}"
    return f"{value:.3g}{suffix if suffix == '/s' else ' ' + suffix if suffix else ''}"


def fill(template: str, labels: dict) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), template)


def series(fleet: Fleet, panel: dict, pool: str, span: tuple[float, float]) -> list[tuple[str, list, list]]:
    """Legend, times and values of each line of a panel."""
    lines = []
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "12s").replace("$pool", pool).replace("[5m]", "[12s]")
        for one in fleet.query_range(expression, *span, STEP_SECONDS):
            points = [(at - span[0], float(value)) for at, value in one["values"] if not math.isnan(float(value))]
            if points:
                lines.append((fill(target["legendFormat"], one["metric"]), *map(list, zip(*points))))
    return lines


def draw(axes, panel: dict, lines: list, seconds: float):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_facecolor(PANEL)
    axes.set_title(panel["title"], loc="left", color=TEXT, fontsize=8, fontweight="bold")
    if panel["type"] == "stat":
        axes.axis("off")
        axes.text(0.5, 0.4, shown(lines[0][2][-1], unit), ha="center", va="center", color=COLOURS[0], fontsize=20, transform=axes.transAxes)
        return
    if panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal":
        times = sorted({at for _, ats, _ in lines for at in ats})
        heights = [[dict(zip(ats, values)).get(at, 0) for at in times] for _, ats, values in lines]
        axes.stackplot(times, heights, labels=[legend for legend, *_ in lines], colors=COLOURS, alpha=0.7)
    else:
        for (legend, times, values), colour in zip(lines, COLOURS * 9):
            axes.plot(times, values, label=legend, color=colour, linewidth=1)
    axes.set_xlim(0, seconds)
    axes.set_ylim(bottom=0)
    axes.grid(color=GRID, linewidth=0.5)
    axes.tick_params(colors=TEXT, labelsize=6, length=0)
    axes.xaxis.set_major_formatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}")
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(fontsize=5.5, labelcolor=TEXT, frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, -0.07), handlelength=1)


def picture(fleet: Fleet, name: str, span: tuple[float, float]):
    board = json.loads((CHART / f"dashboards/{name}.json").read_text())
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * UNIT_INCHES, rows * UNIT_INCHES * 0.5), facecolor=DARK)
    figure.suptitle(board["title"], color=TEXT, fontsize=12, x=0.01, ha="left", y=0.995, va="top")
    top = 1 - 0.35 / figure.get_figheight()
    for panel in board["panels"]:
        at = panel["gridPos"]
        left, width = at["x"] / 24, at["w"] / 24
        bottom, height = top * (1 - (at["y"] + at["h"]) / rows), top * at["h"] / rows
        margin = 0.05 if panel["type"] == "stat" else 0.24
        axes = figure.add_axes((left + 0.032, bottom + height * margin, width - 0.042, height * (0.86 - margin)))
        draw(axes, panel, series(fleet, panel, ".*" if name != "pool" else "chat", span), span[1] - span[0])
    out = ROOT / f"docs/images/dashboard-{name}.png"
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=90, facecolor=DARK)
    plt.close(figure)


def main():
    with Fleet(workers=3) as fleet:
        span = story(fleet)
        for path in sorted((CHART / "dashboards").glob("*.json")):
            picture(fleet, path.stem, span)


if __name__ == "__main__":
    main()
