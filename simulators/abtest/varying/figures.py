"""Lift against what a world is like, as pictures.

Points are those of `Point.as_json`: parameter, value, and group -> metric -> difference, low, high.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulators.abtest.paired import GAIN
from simulators.abtest.verdict import GROUPS, labelled
from stream.monitor.page.style import FAINT, add_legend, dress, new_figure, palette

_SHOWN = (GAIN, "reach", "click", "active_days", "duration")
"""Metrics of a parameter's figure, the first four that there are; the JSON has all."""
_PANELS = 4
_COLUMNS = 2
_APART = 0.015
"""Between groups, so that no interval hides another: share of the width."""
Points = Sequence[dict[str, Any]]


def by_parameter(points: Points) -> list[list[dict[str, Any]]]:
    """Points by parameter, in the order in which these come, each by its values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for point in sorted(points, key=lambda point: point["value"]):
        found.setdefault(point["parameter"], []).append(point)
    return [found[name] for name in dict.fromkeys(point["parameter"] for point in points)]


def shown_of(points: Points) -> list[str]:
    """The metrics that are shown, the one that says most first."""
    return [metric for metric in _SHOWN if all(metric in point["all"] for point in points)][:_PANELS]


def lift_figure(points: Points) -> Figure:
    """The first metric against every parameter, a panel for each, all on one scale: what matters, and to whom."""
    parameters, metric = by_parameter(points), shown_of(points)[0]
    rows = ceil(len(parameters) / _COLUMNS)
    figure = new_figure(3.0 * rows + 0.8, f"{labelled(metric)}, by what the world is like")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True)
    return _filled(figure, panels.ravel().tolist(), [(metric, of) for of in parameters])


def parameter_figure(points: Points) -> Figure:
    """Several metrics against one parameter, a panel for each."""
    shown = shown_of(points)
    rows = ceil(len(shown) / _COLUMNS)
    figure = new_figure(2.6 * rows + 0.8, f"By {points[0]['parameter']}")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False)
    return _filled(figure, panels.ravel().tolist(), [(metric, points) for metric in shown])


def _filled(figure: Figure, panels: Sequence[Axes], shown: Sequence[tuple[str, Points]]) -> Figure:
    """With one metric against one parameter in each panel, and nothing in those that are left; one legend for all."""
    for axes, (metric, points) in zip(panels, shown, strict=False):
        _panel(axes, metric, points)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    add_legend(figure, panels[0])
    return figure


def _panel(axes: Axes, metric: str, points: Points) -> None:
    values = [point["value"] for point in points]
    width = values[-1] - values[0]
    apart = _APART * (width or 1.0)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    for n, (group, colour) in enumerate(zip(GROUPS, palette(len(GROUPS)), strict=True), start=-1):
        of = [(point["value"], point[group][metric]) for point in points if metric in point[group]]
        lifts = [100 * found["difference"] for _, found in of]
        below = [100 * (found["difference"] - found["low"]) for _, found in of]
        above = [100 * (found["high"] - found["difference"]) for _, found in of]
        at = [value + n * apart for value, _ in of]
        axes.errorbar(
            at, lifts, yerr=[below, above], color=colour, marker="o", markersize=3, linewidth=1.2, label=group
        )
    axes.set_xticks(values, [f"{value:g}" for value in values])
    margin = 4 * apart if width else 0.5
    axes.set_xlim(values[0] - margin, values[-1] + margin)
    dress(axes, points[0]["parameter"].replace("+", "\n"), labelled(metric))
