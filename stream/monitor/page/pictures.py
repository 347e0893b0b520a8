"""A finished run as pictures: PNG, 1200 px wide, for where a page cannot go."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stream.monitor.figures.intervals import Estimate
from stream.monitor.page.style import (
    BEHIND,
    FAINT,
    INK,
    LINE,
    add_legend,
    days,
    dress,
    new_figure,
    numbers,
    palette,
)

_DPI = 120
_COLUMNS = 3
_STEPS = [1, 2, 5, 10]


class _Metric(NamedTuple):
    label: str
    """Of its axis."""
    title: str
    reference: float
    """A value to compare with."""
    meaning: str
    """Of the reference."""


_METRICS = {
    "auc": _Metric("AUC", "AUC over time, by the user's earlier impressions; higher is better", 0.5, "chance"),
    "calibration": _Metric(
        "positives, predicted / actual",
        "Calibration over time, by the user's earlier impressions; above 1, too many positives are predicted",
        1.0,
        "as many as predicted",
    ),
    "ne": _Metric(
        "log-loss / entropy of the labels",
        "Normalised entropy over time, by the user's earlier impressions; lower is better",
        1.0,
        "always predicting their positive rate",
    ),
}


def draw_pictures(shown: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what there is data for; returns the files written.

    Args:
        shown: from `View.show`.
        folder: where the files go; made if need be.
    """
    users = [row for row in shown["whole"] if row["dimension"] == "user" and row["samples"]]
    everyone = [row for row in shown["whole"] if row["dimension"] == "all"]
    drawn = {f"cohorts-{name}": _draw_cohorts(shown["series"], name) for name in _METRICS}
    drawn["passage"] = _draw_passage(shown["nth"])
    drawn["weights"] = _draw_weights(users, shown["weights"])
    drawn["served"] = _draw_served(shown["served"])
    drawn["summary"] = _draw_summary(users, everyone)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=_DPI, facecolor="white")
    return paths


def _alarm_times(series: Mapping[str, Any]) -> list[int]:
    """Event times of the alarms, ms, ascending, each once.

    An alarm has the wall clock of its bucket. Points are several buckets merged, so the alarm's is the first that does
    not end before it.

    >>> _alarm_times({"end_ms": [10, 20], "last_ts": [7, 8], "alarms": [{"end_ms": 11}, {"end_ms": 20}]})
    [8]
    """
    end_ms, last_ts = series["end_ms"], series["last_ts"]
    found = {int(at) for at in np.searchsorted(end_ms, [alarm["end_ms"] for alarm in series["alarms"]])}
    return sorted({last_ts[at] for at in found if at < len(last_ts) and last_ts[at] > 0})


def _draw_cohorts(series: Mapping[str, Any] | None, name: str) -> Figure | None:
    """A metric over time: one panel per user cohort that has it, as the bands of all in one would hide each other."""
    if series is None:
        return None
    ts_P, metric = np.array(series["last_ts"], np.int64), _METRICS[name]
    # What is learned later may have happened earlier. Points that hold late labels only have no event time.
    order = np.array([at for at in np.argsort(ts_P, kind="stable") if ts_P[at] > 0], np.int64)
    cohorts: dict[str, np.ndarray] = {}
    all_P = np.full(len(order), np.nan)
    for line in series["lines"]:
        values_P3 = np.array([numbers(estimate) for estimate in line[name]])[order]
        if line["dimension"] == "all":
            all_P = values_P3[:, 0]
        elif line["dimension"] == "user" and np.isfinite(values_P3[:, 0]).any():
            cohorts[f"{line['cohort']} earlier ({sum(line['samples']):,} samples)"] = values_P3
    if not cohorts:
        return None
    figure = new_figure(1.1 + 2.5 * -(-len(cohorts) // _COLUMNS), metric.title)
    days_P, alarms = days(ts_P[order]), days(_alarm_times(series))
    panels = _new_panels(figure, len(cohorts), metric.label)
    _bound(panels[0], days_P, np.concatenate([values_P3[:, 0] for values_P3 in cohorts.values()]))
    for axes, title, colour in zip(panels, cohorts, palette(len(cohorts)), strict=True):
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        _draw_line(axes, days_P, cohorts[title], colour)
        axes.plot(days_P, all_P, color=BEHIND, linewidth=1.3, label="all users", zorder=1.5)
        _draw_marks(axes, metric, alarms)
    add_legend(figure, panels[0])
    return figure


def _new_panels(figure: Figure, count: int, label: str) -> list[Axes]:
    """So many panels in rows, on the same axes: event time, and what the label says."""
    columns = min(_COLUMNS, count)
    grid = figure.subplots(-(-count // columns), columns, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat[:count])
    for at, axes in enumerate(panels):
        # The last of its column, whether or not its row is the last.
        ends = at + columns >= count
        dress(axes, "event time (UTC)" if ends else "", label if at % columns == 0 else "")
        axes.xaxis.label.set_horizontalalignment("left")
        axes.xaxis.label.set_x(0.0)
        axes.tick_params(labelbottom=ends)
        axes.grid(axis="y", color=LINE, linewidth=0.6)
    for axes in grid.flat[count:]:
        axes.remove()
    return panels


def _bound(axes: Axes, days_P: np.ndarray, values: np.ndarray) -> None:
    """Limits and ticks of panels that share them: a few wild points and wide intervals must not flatten the rest."""
    low, high = np.nanquantile(values, [0.02, 0.98])
    margin = max(0.15 * (high - low), 0.05)
    axes.set_ylim(max(low - margin, 0.0), high + margin)
    margin = max(0.02 * float(np.ptp(days_P)), 1 / 1440)
    axes.set_xlim(days_P.min() - margin, days_P.max() + margin)
    # With other numbers of ticks, some spans have no interval that fits, which warns.
    locator = AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))


def _draw_line(axes: Axes, days_P: np.ndarray, values_P3: np.ndarray, colour: str) -> None:
    """A cohort's values and intervals; a triangle at the edge where a value is beyond it."""
    value_P, low_P, high_P = values_P3.T
    axes.plot(days_P, value_P, color=colour, linewidth=1.3, marker="o", markersize=2.5, label="these users")
    axes.fill_between(days_P, low_P, high_P, color=colour, alpha=0.18, linewidth=0, label="their 95 % interval")
    known = np.concatenate([[False], np.isfinite(low_P), [False]])
    # A band has no width at a point between two gaps.
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    axes.vlines(days_P[alone], low_P[alone], high_P[alone], color=colour, alpha=0.25, linewidth=3)
    bottom, top = axes.get_ylim()
    for beyond, edge, marker in ((value_P > top, top, "^"), (value_P < bottom, bottom, "v")):
        if beyond.any():
            axes.plot(days_P[beyond], np.full(beyond.sum(), edge), marker, color=colour, markersize=5, clip_on=False)


def _draw_marks(axes: Axes, metric: _Metric, alarms: np.ndarray) -> None:
    """What the metric is compared with, if that is near, and the alarms."""
    bottom, top = axes.get_ylim()
    if bottom < metric.reference < top:
        label = f"{metric.reference:g}: {metric.meaning}"
        axes.axhline(metric.reference, color=FAINT, linestyle="--", linewidth=1.0, label=label)
    label = "drift alarm, of any cohort"
    for day in alarms:
        axes.axvline(day, color=INK, linestyle=(0, (1, 2)), linewidth=1.2, label=label)
        label = "_once in the legend"


def _draw_passage(nth: Mapping[str, Any] | None) -> Figure | None:
    """Log-loss and calibration at a user's n-th impression, one above the other."""
    curves = {name: np.array([numbers(e) for e in nth[name]]) for name in ("log_loss", "calibration")} if nth else {}
    if not any(np.isfinite(curve).any() for curve in curves.values()):
        return None
    figure = new_figure(6.0, "From cold to warm: the quality of predictions at a user's n-th impression")
    labels = ("log-loss (nats); lower is better", "positives, predicted / actual")
    panels: list[Axes] = list(figure.subplots(2, 1, sharex=True))
    for axes, curve, label, colour in zip(panels, curves.values(), labels, palette(3)[:2], strict=True):
        n = np.arange(1, len(curve) + 1)
        axes.fill_between(n, curve[:, 1], curve[:, 2], color=colour, alpha=0.15, linewidth=0)
        axes.plot(n, curve[:, 0], color=colour, marker="o", markersize=4)
        dress(axes, "", label)
        axes.grid(axis="y", color=LINE, linewidth=0.6)
    lower = panels[1]
    lower.axhline(1.0, color=FAINT, linestyle="--", linewidth=1.0, label="1: as many as predicted")
    lower.set_xlabel("n; the user's first impression is 1")
    lower.set_xlim(0.5, len(curves["log_loss"]) + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=_STEPS))
    figure.align_ylabels()
    add_legend(figure, lower)
    return figure


def _draw_weights(users: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> Figure | None:
    """Heat map of the mean weights by state, cohorts by parts of the model; where nothing weighs they are all 0."""
    weights_CF = np.array([row["weights"] for row in users], np.float64)
    if not weights_CF.any():
        return None
    title = "Weight that the gate gives each part of the model: 0 ignores it, 1 keeps it, 2 doubles it"
    figure = new_figure(1.8 + 0.5 * len(users), title)
    axes, crowded = figure.subplots(), len(parts) > 10
    image = axes.imshow(weights_CF, cmap="cividis", vmin=0.0, vmax=2.0, aspect="auto")
    for (c, f), weight in np.ndenumerate(weights_CF):
        colour = "white" if weight < 0.9 else "black"
        axes.text(f, c, f"{weight:.2f}", ha="center", va="center", color=colour, fontsize=8 if crowded else 10)
    dress(axes, "part", "earlier impressions of the user")
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(len(users)), [row["cohort"] for row in users])
    axes.set_xticks(range(len(parts)), parts, parse_math=False)
    if crowded:
        axes.tick_params(axis="x", labelrotation=90)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("mean weight over samples", fontsize=10, color=INK)
    bar.ax.tick_params(labelsize=9, labelcolor=INK, color=LINE)
    return figure


def _draw_served(served: Mapping[str, Any] | None) -> Figure | None:
    """How far what was served is off from the learner's own prediction: by group, what that cost or saved."""
    rows = [row for row in served["whole"] if row["benefit"].value is not None] if served else []
    rows = [row for row in rows if row["dimension"] not in ("account", "version")]
    if not rows:
        return None
    figure = new_figure(1.6 + 0.45 * len(rows), "As served: log-loss saved against the learner's own prediction (95 %)")
    axes = figure.subplots()
    for y, (row, colour) in enumerate(zip(rows, [INK, *palette(len(rows) - 1)], strict=True)):
        _draw_estimate(axes, y, row["benefit"], "o", colour)
    axes.axvline(0.0, color=FAINT, linestyle="--", linewidth=1.0)
    dress(axes, "nats per impression; above 0, what was served was better", "impressions that a scorer decided")
    alone = ("all", "share")
    names = [row["cohort"] if row["dimension"] in alone else f"{row['dimension']} {row['cohort']}" for row in rows]
    off = [f"off by {row['skew_abs']:.4f}, {row['samples']:,} impressions" for row in rows]
    axes.set_yticks(range(len(rows)), [f"{name}\n{said}" for name, said in zip(names, off, strict=True)], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    return figure


def _draw_summary(users: Sequence[Mapping[str, Any]], everyone: Sequence[Mapping[str, Any]]) -> Figure | None:
    """AUC over the whole run, of each user cohort and of all, each above the popularity baseline's."""
    rows = [row for row in (*users, *everyone) if row["auc"].value is not None]
    if not rows:
        return None
    figure = new_figure(1.4 + 0.6 * len(rows), "AUC over the whole run, with 95 % intervals")
    axes = figure.subplots()
    for y, (row, colour) in enumerate(zip(rows, [*palette(len(rows) - 1), INK], strict=True)):
        _draw_estimate(axes, y - 0.15, row["auc"], "o", colour)
        _draw_estimate(axes, y + 0.15, row["reference_auc"], "D", FAINT)
    axes.plot([], [], "o-", color=INK, label="model")
    axes.plot([], [], "D-", color=FAINT, markersize=5, label="popularity baseline, on the same samples")
    dress(axes, "AUC; higher is better", "earlier impressions of the user")
    axes.set_yticks(range(len(rows)), [f"{row['cohort']}\n{row['samples']:,} samples" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=_STEPS))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    add_legend(figure, axes)
    return figure


def _draw_estimate(axes: Axes, y: float, estimate: Estimate, marker: str, colour: str) -> None:
    """A point on its interval, and its number."""
    if estimate.value is None:
        return
    ends = [end for end in (estimate.low, estimate.high) if end is not None] or [estimate.value]
    axes.plot(ends, [y] * len(ends), color=colour, linewidth=2)
    axes.plot(estimate.value, y, marker, color=colour, markersize=7 if marker == "o" else 5)
    text, end = f"{estimate.value:.3f}", (ends[-1], y)
    axes.annotate(text, end, (5, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
