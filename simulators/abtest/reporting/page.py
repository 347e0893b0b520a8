"""A test as one HTML file: the table, and how the differences came about day by day."""

from collections.abc import Mapping
from html import escape
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from learner.files import write_whole
from simulators.abtest.analysis.difference import Z
from simulators.abtest.verdict import GROUPS, labelled
from stream.monitor.page.style import FAINT, INK, LINE, dress, new_figure, svg_of

_COLUMNS = 3
_STYLE = (
    f"body {{ font: 15px system-ui, sans-serif; color: {INK}; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }}"
    f"td, th {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid {LINE} }}"
    "th:first-child { text-align: left } table { border-collapse: collapse } .sure { font-weight: 600 }"
    "svg { width: 100%; height: auto }"
)


def write_page(summary: Mapping[str, Any], title: str, folder: Path) -> Path:
    """Write `abtest.html`.

    Args:
        summary: of the runs (`simulators/abtest/reporting/report.py`).
        title: which arms.
        folder: of the run.
    """
    path = folder / "abtest.html"
    note = (
        f"{len(summary['seeds'])} worlds, pooled as random effects; relative differences of means per user with 95 % "
        "intervals, bold where they exclude 0, beside what AdaF2M2 did in its paper's Table 1. Reach says how far "
        "lists come from candidates at random (0) to the best of them (1), by the truth; its gain is absolute, in "
        "points, of both arms' lists for the same visits. Below, all users by the day "
        "of the test: shaded is what a look at each day allows (O'Brien-Fleming boundaries)."
    )
    write_whole(path, [document(title, note, _table(summary) + _figure(summary)).encode()])
    return path


def document(title: str, note: str, body: str) -> str:
    """A page: HTML of title, note and body."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(note)}</p>{body}</html>\n"
    )


def _table(summary: Mapping[str, Any]) -> str:
    metrics = list(summary["all"])
    head = "".join(f"<th>{group}</th><th>paper</th>" for group in GROUPS)
    rows = (
        f"<tr><th>{escape(labelled(metric))}</th>{''.join(_cells(summary, group, metric) for group in GROUPS)}</tr>"
        for metric in metrics
    )
    return f"<table><tr><th>per user</th>{head}</tr>{''.join(rows)}</table>"


def _cells(summary: Mapping[str, Any], group: str, metric: str) -> str:
    said = summary["paper"][group].get(metric)
    paper = "" if said is None else f"{100 * said:+.3f}"
    return f"{_cell(summary[group].get(metric))}<td>{paper}</td>"


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "<td>-</td>"
    value, low, high = (100 * found[name] for name in ("difference", "low", "high"))
    sure = ' class="sure"' if low > 0 or high < 0 else ""
    return f"<td{sure}>{value:+.2f} ({low:+.2f} to {high:+.2f})</td>"


def _figure(summary: Mapping[str, Any]) -> str:
    metrics = list(summary["all"])
    rows = ceil(len(metrics) / _COLUMNS)
    figure = new_figure(2.2 * rows + 0.5, "Difference of all users, by day")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _panel(axes, metric, summary["by_day"])
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    return svg_of(figure)


def _panel(axes: Axes, metric: str, by_day: list[Mapping[str, Any]]) -> None:
    days = [day for day in by_day if metric in day["all"]]
    numbers = [day["day"] for day in days]
    values = [100 * day["all"][metric]["difference"] for day in days]
    halves = [50 * (day["all"][metric]["high"] - day["all"][metric]["low"]) for day in days]
    looks = [half * day["boundary"] / Z for half, day in zip(halves, days, strict=True)]
    lows, highs = ([v + sign * look for v, look in zip(values, looks, strict=True)] for sign in (-1, 1))
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    axes.fill_between(numbers, lows, highs, color=LINE, linewidth=0)
    axes.errorbar(numbers, values, yerr=halves, color=INK, marker="o", markersize=3, linewidth=1.2)
    axes.set_xticks(numbers)
    dress(axes, "day", labelled(metric))
