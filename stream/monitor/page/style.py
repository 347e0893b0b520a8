"""How the pictures look: colours, sizes, axes with few lines but the data's."""

from collections.abc import Sequence
from io import StringIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.dates import date2num
from matplotlib.figure import Figure

WIDTH = 10.0
"""Inches, so 1200 px."""
INK, FAINT, LINE, BEHIND = "#1b2430", "#5b6775", "#d5dbe1", "#b9c2cb"


def palette(count: int) -> list[str]:
    """Colours from cold to warm, each lighter than the one before: who sees no hues tells them apart all the same.

    >>> palette(2)
    ['#0d0887', '#fb9f3a']
    """
    return [to_hex(colormaps["plasma"](float(at))) for at in np.linspace(0.0, 0.78, count)]


def new_figure(height: float, title: str) -> Figure:
    """A figure with a canvas of its own; pyplot would choose a backend for the whole process and keep every figure."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, color=INK, x=0.01, ha="left")
    return figure


def svg_of(figure: Figure) -> str:
    """The figure as an element of a page."""
    text = StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def dress(axes: Axes, x: str, y: str) -> None:
    """Labels, and few lines but the data's."""
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(color=LINE, labelcolor=INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.set_axisbelow(True)


def add_legend(figure: Figure, axes: Axes) -> None:
    """One for the whole figure, below it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9, labelcolor=INK
    )


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """None as NaN, which leaves a gap."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def days(ts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Event times in ms as what matplotlib counts dates in."""
    return np.asarray(date2num(np.array(ts, "datetime64[ms]")), np.float64)  # type: ignore[no-untyped-call]
