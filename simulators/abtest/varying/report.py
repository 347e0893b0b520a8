"""Lift against what a world is like: a table for each parameter that was varied, and a page of figures."""

from pathlib import Path

import msgspec
from rich.box import SIMPLE
from rich.table import Table

from learner.files import write_whole
from simulators.abtest.paired import GAIN
from simulators.abtest.reporting.page import document
from simulators.abtest.varying.figures import Points, by_parameter, lift_figure, parameter_figure, shown_of
from simulators.abtest.verdict import unit_of
from stream.monitor.page.style import svg_of

_IN_TABLE = (GAIN, "reach", "click")
"""Of the table: the first that there is, and the last."""


def write_points(points: Points, title: str, folder: Path) -> Path:
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
    path, figures = folder / "vary.html", [lift_figure(points), *map(parameter_figure, by_parameter(points))]
    write_whole(path, [document(title, note, "".join(map(svg_of, figures))).encode()])
    return path


def tables_of(points: Points) -> list[Table]:
    """By parameter, lift by value, of two metrics, for new and for all users: they fit a terminal."""
    return [_table(of) for of in by_parameter(points)]


def _table(points: Points) -> Table:
    table = Table(title=points[0]["parameter"], box=SIMPLE, padding=(0, 1))
    table.add_column("value", no_wrap=True)
    there = [metric for metric in shown_of(points) if metric in _IN_TABLE]
    names = [(group, metric) for group in ("new", "all") for metric in (there[0], there[-1])]
    for group, metric in names:
        table.add_column(f"{metric}\n{group}, {unit_of(metric)}", justify="right", no_wrap=True)
    for point in points:
        table.add_row(f"{point['value']:g}", *(_cell(point[group].get(metric)) for group, metric in names))
    return table


def _cell(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{100 * found['difference']:+.1f} ± {50 * (found['high'] - found['low']):.1f}"
