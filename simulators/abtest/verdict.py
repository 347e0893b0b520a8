"""Tallies -> differences by group and metric, as in AdaF2M2's Table 1."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import mean
from typing import Any

import msgspec
import numpy as np

from simulators.abtest.analysis.difference import (
    Difference,
    adjusted,
    capped,
    mismatch,
    paired_difference,
    relative_difference,
)
from simulators.abtest.analysis.pooled import pooled, pooled_with_few, power_of, users_needed
from simulators.abtest.paired import GAINS, Pairs
from simulators.abtest.tally import Period, Tally

GROUPS = ("new", "old", "all")
"""New users are first seen in the test, old ones before it; only who comes in the test is counted."""
Differences = dict[str, dict[str, Difference]]
"""Group -> metric -> difference."""


class Verdict(msgspec.Struct, frozen=True):
    """Of one run."""

    differences: Differences
    users: dict[str, list[int]]
    """Group -> users by arm."""
    means: dict[str, list[dict[str, float]]]
    """Group -> by arm, metric -> mean per user."""
    mismatch: float
    """p-value of a split as uneven as this."""


def verdict_of(tally: Tally, cap: float = 1.0) -> Verdict:
    """Compare the arms.

    Args:
        tally: what each user did.
        cap: no user's figure counts for more than this quantile of its group's.
    """
    test_UM, before_UM = tally.of(Period.TEST), tally.of(Period.BEFORE)
    in_test_U = tally.arm_U >= 0
    is_old_U = before_UM[:, 0] > 0
    groups = {"new": in_test_U & ~is_old_U, "old": in_test_U & is_old_U, "all": in_test_U}
    differences, users, means = {}, {}, {}
    for group, is_in_U in groups.items():
        arm_G = tally.arm_U[is_in_U]
        users[group] = [int((arm_G == n).sum()) for n in (0, 1)]
        differences[group] = _differences(
            tally.metrics, arm_G, *(_capped(of_UM[is_in_U], cap) for of_UM in (test_UM, before_UM))
        ) | ({} if tally.pairs is None else _gains(tally.pairs, is_in_U))
        means[group] = [dict(zip(tally.metrics, _mean(test_UM[is_in_U][arm_G == n]), strict=True)) for n in (0, 1)]
    return Verdict(differences, users, means, mismatch(*users["all"]))


def _capped(values_GM: np.ndarray, cap: float) -> np.ndarray:
    return np.stack([capped(values_G, cap) for values_G in values_GM.T], axis=1)


def _mean(values_GM: np.ndarray) -> list[float]:
    return [0.0] * values_GM.shape[1] if not len(values_GM) else values_GM.mean(axis=0).tolist()


def _differences(
    metrics: Sequence[str], arm_G: np.ndarray, test_GM: np.ndarray, before_GM: np.ndarray
) -> dict[str, Difference]:
    found = {}
    for m, metric in enumerate(metrics):
        values_G = adjusted(test_GM[:, m], before_GM[:, m])
        difference = relative_difference(values_G[arm_G == 0], values_G[arm_G == 1])
        if difference is not None:
            found[metric] = difference
    return found


def _gains(pairs: Pairs, is_in_U: np.ndarray) -> dict[str, Difference]:
    found = {gain: paired_difference(*pairs.of(gain, is_in_U).T) for gain in GAINS}
    return {gain: difference for gain, difference in found.items() if difference is not None}


def pooled_of(verdicts: Sequence[Verdict]) -> Differences:
    """Over runs, as random effects; of those metrics that every run has.

    What is compared visit by visit is so certain in each world that worlds are what it depends on.
    """
    return {
        group: {
            metric: _pool(metric)([one.differences[group][metric] for one in verdicts])
            for metric in verdicts[0].differences[group]
            if all(metric in one.differences[group] for one in verdicts)
        }
        for group in GROUPS
    }


def unit_of(metric: str) -> str:
    """What a hundredth of a metric's difference is."""
    return "points" if metric in GAINS else "%"


def labelled(metric: str) -> str:
    """A metric with its unit.

    >>> labelled("click"), labelled("reach_gain_unseen")
    ('click, %', 'reach_gain_unseen, points')
    """
    return f"{metric}, {unit_of(metric)}"


def _pool(metric: str) -> Callable[[Sequence[Difference]], Difference]:
    return pooled_with_few if metric in GAINS else pooled


def excluding_zero(verdicts: Sequence[Verdict]) -> tuple[int, int]:
    """How many intervals of single runs exclude 0, and of how many."""
    every = [d for one in verdicts for of in one.differences.values() for d in of.values()]
    return sum(d.excludes_zero for d in every), len(every)


def needed_of(verdicts: Sequence[Verdict], effect: float) -> dict[str, dict[str, int]]:
    """Users of both arms that an effect needs with a power of 80 %, by group and metric; by the runs' mean variance."""
    return {
        group: {
            metric: users_needed(
                sqrt(mean(v.differences[group][metric].error ** 2 * sum(v.users[group]) for v in verdicts)), 1, effect
            )
            for metric in of
        }
        for group, of in pooled_of(verdicts).items()
    }


def power_in(verdicts: Sequence[Verdict], effect: float) -> dict[str, dict[str, float]]:
    """Probability that one run as these finds an effect, by group and metric; by the runs' mean variance."""
    return {
        group: {
            metric: power_of(sqrt(mean(v.differences[group][metric].error ** 2 for v in verdicts)), effect)
            for metric in of
        }
        for group, of in pooled_of(verdicts).items()
    }


def as_json(differences: Differences) -> dict[str, Any]:
    """Group -> metric -> difference, low, high."""
    return {
        group: {metric: {"difference": d.difference, "low": d.low, "high": d.high} for metric, d in of.items()}
        for group, of in differences.items()
    }


def arms_of(names: Mapping[str, str], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Of each arm, its file, its users and its means over all runs.

    Args:
        names: arm -> file, the first arm first.
        verdicts: of the runs.
    """
    return {
        name: {
            "file": file,
            "users": sum(one.users["all"][n] for one in verdicts),
            "means": {
                group: {
                    metric: float(np.mean([one.means[group][n][metric] for one in verdicts]))
                    for metric in verdicts[0].means[group][n]
                }
                for group in GROUPS
            },
        }
        for n, (name, file) in enumerate(names.items())
    }
