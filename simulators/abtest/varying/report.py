"""Lift against what a world is like: a table and a figure for each parameter that was varied."""

from collections.abc import Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.axes import Axes
from rich.box import SIMPLE
from rich.table import Table

from learner.files import write_whole
from simulators.abtest.paired import GAIN
from simulators.abtest.reporting.page import document
from simulators.abtest.verdict import GROUPS
from stream.monitor.page.style import FAINT, dress, new_figure, palette, svg_of

_SHOWN = (GAIN, "reach", "click", "active_days", "duration")
"""Metrics of the figure, the first four that there are; the JSON has all."""
_PANELS = 4
_IN_TABLE = (GAIN, "reach", "click")
"""Of the table: the first that there is, and the last."""
_Points = Sequence[dict[str, Any]]


def write_points(points: _Points, title: str, folder: Path) -> Path:
    """Write `vary.json` and `vary.html`.

    Args:
        points: `Point.as_json` of each.
        title: which arms.
        folder: of the run.
    """
    write_whole(folder / "vary.json", [msgspec.json.format(msgspec.json.encode({"title": title, "points": points}))])
    note = (
        "Relative differences of means per user, second arm against first, with 95 % intervals; worlds are pooled as "
        "random effects. Reach: how far lists come from candidates at random (0) to the best of them (1), by the "
        "truth. Its gain is absolute, in points: both arms' lists of the same visits."
    )
    path = folder / "vary.html"
    write_whole(path, [document(title, note, "".join(map(_figure, _by_parameter(points)))).encode()])
    return path


def tables_of(points: _Points) -> list[Table]:
    """By parameter, lift in percent by value, of two metrics, for new and for all users: they fit a terminal.

    Where both arms rank every visit, one of the two is the gain of reach, in points.
    """
    return [_table(of) for of in _by_parameter(points)]


def _table(points: _Points) -> Table:
    table = Table(title=points[0]["parameter"], box=SIMPLE, padding=(0, 1))
    table.add_column("value", no_wrap=True)
    there = [metric for metric in _shown(points) if metric in _IN_TABLE]
    names = [(group, metric) for group in ("new", "all") for metric in (there[0], there[-1])]
    for group, metric in names:
        table.add_column(f"{metric}\n{group}, %", justify="right", no_wrap=True)
    for point in points:
        table.add_row(f"{point['value']:g}", *(_cell(point[group].get(metric)) for group, metric in names))
    return table


def _shown(points: _Points) -> list[str]:
    return [metric for metric in _SHOWN if all(metric in point["all"] for point in points)][:_PANELS]


def _cell(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found['difference']:+.1f} ± {50 * (found['high'] - found['low']):.1f}"


def _by_parameter(points: _Points) -> list[list[dict[str, Any]]]:
    return [list(of) for _, of in groupby(points, key=lambda point: point["parameter"])]


def _figure(points: _Points) -> str:
    columns, shown = 2, _shown(points)
    rows = ceil(len(shown) / columns)
    figure = new_figure(2.6 * rows + 0.5, f"Lift by {points[0]['parameter']}")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, metric in zip(panels, shown, strict=False):
        _panel(axes, metric, points)
    panels[0].legend(frameon=False, fontsize=9)
    return svg_of(figure)


def _panel(axes: Axes, metric: str, points: _Points) -> None:
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    for group, colour in zip(GROUPS, palette(len(GROUPS)), strict=True):
        of = [(point["value"], point[group][metric]) for point in points if metric in point[group]]
        values = [100 * found["difference"] for _, found in of]
        halves = [50 * (found["high"] - found["low"]) for _, found in of]
        at = [value for value, _ in of]
        axes.errorbar(at, values, yerr=halves, color=colour, marker="o", markersize=3, linewidth=1.2, label=group)
    dress(axes, points[0]["parameter"].replace("+", "\n"), f"{metric}, %")
