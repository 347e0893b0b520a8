"""What the adapter and the gate learned: mean weights by cohort, as tables, a picture and a sentence."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes

from simulators.experiments.reporting.markdown import figure, signed, table
from simulators.experiments.stream.cohorts import NAMES
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variants import ADAPTER, FULL, WHOLE, on_fast
from simulators.experiments.stream.weights import mean_by
from stream.monitor.page.style import BEHIND, INK, LINE, add_legend, dress, new_figure, palette

_DPI = 120
_IDS = {"users": "deep user_id", "items": "deep item_id"}
_DEEP = "deep "
_SHOWN = WHOLE, ADAPTER, FULL, on_fast(FULL)


class MeanWeights(msgspec.Struct, frozen=True):
    """Of one variant, one for each seed, in the second half of the stream."""

    variant: str
    names: list[str]
    seeds: list[int]
    by_users_SCK: list[np.ndarray]
    by_items_SCK: list[np.ndarray]

    def mean(self, kind: str) -> np.ndarray:
        """Over seeds; shape (cohorts, K)."""
        of_seeds = self.by_users_SCK if kind == "users" else self.by_items_SCK
        means_CK: np.ndarray = np.mean(of_seeds, axis=0)
        return means_CK


def mean_weights(experiment: StreamExperiment, results: Sequence[StreamResult]) -> list[MeanWeights]:
    """Of the gate, and of the adapter alone, with masks, and beside the fast part, as far as they are there."""
    found: dict[str, list[StreamResult]] = {}
    for result in results:
        if result.weight_names and result.variant in _SHOWN:
            found.setdefault(result.variant, []).append(result)
    means = []
    for variant, of_seeds in found.items():
        arrays = [experiment.weights(result) for result in of_seeds]
        by = ([mean_by(kind, each) for each in arrays] for kind in ("users", "items"))
        seeds = [result.seed for result in of_seeds if result.seed is not None]
        means.append(MeanWeights(variant, of_seeds[0].weight_names, seeds, *by))
    return means


def report(means: Sequence[MeanWeights], title: str, picture: Path | None) -> str:
    """Tables and sentences in Markdown.

    Args:
        means: as of `mean_weights`.
        title: of the log and its task.
        picture: file name of what `draw` drew.
    """
    if not means:
        return ""
    parts = [
        f"#### What adapter and gate learned on {title}: mean weight by cohort, second half of the stream",
        "\n".join(
            [
                "Claim (AdaF2M2, section 3.4): the fields of ids gain weight as user and item become known. By seed:",
                *(f"- {_claim(each, kind)}" for each in means for kind in _IDS if _IDS[kind] in each.names),
            ]
        ),
    ]
    parts += [f"![mean weights]({picture.name})"] if picture is not None else []
    for each in means:
        for kind in _IDS:
            known = [n for n, row in enumerate(each.mean(kind)) if np.isfinite(row).all()]
            rows = [
                [name, *(figure(float(each.mean(kind)[n, k]), 3) for n in known)] for k, name in enumerate(each.names)
            ]
            head = [f"{each.variant}: earlier impressions of the {kind[:-1]}", *(NAMES[n] for n in known)]
            parts.append(table(head, rows))
    return "\n\n".join(parts)


def _claim(means: MeanWeights, kind: str) -> str:
    """Whether an id's weight rises from the coldest to the warmest cohort, and beside the mean of the other fields."""
    known = [n for n, row in enumerate(means.mean(kind)) if np.isfinite(row).all()]
    k = means.names.index(_IDS[kind])
    others = [n for n, name in enumerate(means.names) if name.startswith(_DEEP) and n != k]
    of_seeds = means.by_users_SCK if kind == "users" else means.by_items_SCK
    if len(known) < 2:
        return f"*{means.variant}*: {_IDS[kind]}: only one cohort is there."
    rises = [float(each[known[-1], k] - each[known[0], k]) for each in of_seeds]
    beside = [
        r - float((each[known[-1]] - each[known[0]])[others].mean()) for r, each in zip(rises, of_seeds, strict=True)
    ]
    if all(rise > 0 for rise in rises):
        said = "rises" if all(rise > 0 for rise in beside) else "rises, but no more than other fields do"
    else:
        said = "falls" if all(rise < 0 for rise in rises) else "rises at some seeds and falls at others"
    spans = " / ".join(signed(rise) for rise in rises), " / ".join(signed(rise) for rise in beside)
    return (
        f"*{means.variant}*: the weight of `{_IDS[kind].removeprefix(_DEEP)}` {said}, from {NAMES[known[0]]} to "
        f"{NAMES[known[-1]]} earlier impressions of the {kind[:-1]} by {spans[0]}, less the other fields' mean by "
        f"{spans[1]}."
    )


def draw(means: Sequence[MeanWeights], title: str, path: Path) -> Path | None:
    """Weights of the deep part's fields, a row of panels for each variant; None if none has any.

    Args:
        means: as of `mean_weights`.
        title: of the log and its task.
        path: of the PNG.
    """
    shown = [each for each in means if _IDS["users"] in each.names]
    if not shown:
        return None
    figure_ = new_figure(
        1.0 + 2.6 * len(shown), f"What the adapter learned on {title}: mean weight of each field, second half"
    )
    grid = figure_.subplots(len(shown), 2, sharey="row", squeeze=False)
    for row, each in zip(grid, shown, strict=True):
        for axes, kind in zip(row, _IDS, strict=True):
            _draw_panel(axes, each, kind)
            axes.set_title(each.variant, fontsize=10, color=INK, loc="left")
            dress(axes, f"earlier impressions of the {kind[:-1]}", "weight" if kind == "users" else "")
    add_legend(figure_, grid[0, 0])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_.savefig(path, dpi=_DPI, facecolor="white")
    return path


def _draw_panel(axes: Axes, means: MeanWeights, kind: str) -> None:
    weights_CK = means.mean(kind)
    colours = dict(zip(_IDS.values(), palette(2), strict=True))
    at = np.arange(len(NAMES))
    deep = [k for k, name in enumerate(means.names) if name.startswith(_DEEP)]
    others = [k for k in deep if means.names[k] not in colours]
    for n, k in enumerate(others):
        axes.plot(at, weights_CK[:, k], color=BEHIND, linewidth=1.0, label="other fields" if n == 0 else None)
    axes.plot(at, weights_CK[:, others].mean(axis=1), color=INK, linestyle="--", linewidth=1.3, label="their mean")
    for name, colour in colours.items():
        label = name.removeprefix(_DEEP)
        axes.plot(at, weights_CK[:, means.names.index(name)], color=colour, marker="o", markersize=4, label=label)
    axes.set_xticks(at, NAMES)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
