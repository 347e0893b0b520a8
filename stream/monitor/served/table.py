"""Sums by group -> the rows of the page's table of what was served."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learner.samples.keys import arm_key
from stream.monitor.figures.bucket import NUM_BINS, PREDICTED, REFERENCE_LOSS, WEIGHT
from stream.monitor.figures.groups import ARM, COHORT, EVERYTHING, OTHER_ARMS, SHARE, VERSION, GroupKey, Groups
from stream.monitor.figures.intervals import group_figures, histogram_auc
from stream.monitor.served.sums import ABSOLUTE_SKEW, HISTOGRAMS, SKEW, SKEWS, skew_quantile

_QUANTILES = {"skew_p50": 0.5, "skew_p90": 0.9, "skew_p99": 0.99}
_SHARES = {0: "the rest", 1: "canary"}


def served_figures(sums_X: np.ndarray) -> dict[str, Any]:
    """Every figure of a group.

    Args:
        sums_X: columns as of `stream.monitor.served.sums`.

    Returns:
        `mean`: of what was served; `reference_loss`: log-loss of the learner's own prediction; `benefit`: by how much
        what was served is better than that, nats; `skew`: mean of what was served less the learner's own, `skew_abs`:
        mean of its absolute value, `skew_p50` and further: its quantiles.
    """
    weight = float(sums_X[WEIGHT])
    means = {"mean": PREDICTED, "reference_loss": REFERENCE_LOSS, "skew": SKEW, "skew_abs": ABSOLUTE_SKEW}
    return {
        **group_figures(sums_X),
        "auc": histogram_auc(*sums_X[HISTOGRAMS].reshape(2, NUM_BINS)),
        **{name: float(sums_X[column]) / weight if weight > 0 else None for name, column in means.items()},
        **{name: skew_quantile(sums_X[SKEWS], q) for name, q in _QUANTILES.items()},
    }


class GroupNames:
    """What groups are called.

    Args:
        cohorts: dimension and name of each, by number.
        arms: names of those that are known.
    """

    def __init__(self, cohorts: Sequence[tuple[str, str]], arms: Sequence[str]) -> None:
        self._cohorts = cohorts
        self._arms = {arm_key(name): name for name in arms} | {0: "none", OTHER_ARMS: "others"}

    def of(self, key: GroupKey, width: int) -> tuple[str, str]:
        """Dimension and name.

        >>> names = GroupNames([("user", "0")], ["wide"])
        >>> [names.of(key, 4) for key in (("cohort", 0), ("arm", arm_key("wide")), ("version", 3), ("share", 1))]
        [('user', '0'), ('arm', 'wide'), ('version', '12-15'), ('share', 'canary')]
        """
        dimension, number = key
        if dimension == COHORT:
            return self._cohorts[number]
        if dimension == VERSION:
            first = number * width
            return dimension, str(first) if width == 1 else f"{first}-{first + width - 1}"
        named: Mapping[int, str] = {EVERYTHING: {0: "all"}, ARM: self._arms, SHARE: _SHARES}[dimension]
        return dimension, named.get(number, f"{number:016x}")


def served_table(groups: Groups, names: GroupNames) -> list[dict[str, Any]]:
    """A row per group: all, by cohort, by share of the canary, by arm, by versions, newest first.

    Arms and shares are left out while there is one only.
    """
    found = []
    for dimension in (EVERYTHING, COHORT, SHARE, ARM, VERSION):
        of = groups.of(dimension)
        if dimension in (SHARE, ARM) and len(of) < 2:
            continue
        for number in sorted(of, reverse=dimension == VERSION):
            called, name = names.of((dimension, number), groups.width)
            found.append({"dimension": called, "cohort": name, **served_figures(of[number])})
    return found
