"""Outcomes of what was served -> sums by group. The columns and their meaning.

Legend: N outcomes, G groups, X columns, S bins of the skew, K bins of predictions.
"""

import numpy as np

from learner.metrics import sampling_weights
from stream.monitor.figures.bucket import (
    BENEFIT_SQUARED,
    COUNT,
    LOSS,
    LOSS_SQUARED,
    NUM_BINS,
    POSITIVE,
    PREDICTED,
    REFERENCE_LOSS,
    WEIGHT,
)
from stream.monitor.figures.cohorts import sum_by_index
from stream.monitor.figures.groups import ARM, COHORT, EVERYTHING, SHARE, Groups
from stream.served import ServedOutcomes

SKEW = BENEFIT_SQUARED + 1
"""What was served less what the learner said; columns before it are a bucket's, with the learner as the reference."""
ABSOLUTE_SKEW = SKEW + 1
_NUM_SUMS = ABSOLUTE_SKEW + 1
_PER_DECADE, _DECADES = 8, 6
NUM_SKEWS = 1 + _PER_DECADE * _DECADES
"""S: up to a millionth, then so many a decade, up to 1."""
SKEWS = slice(_NUM_SUMS, _NUM_SUMS + NUM_SKEWS)
"""Histogram of the absolute skew."""
HISTOGRAMS = slice(SKEWS.stop, SKEWS.stop + 2 * NUM_BINS)
"""Of what was served: of the negatives, then of the positives."""
_EPS = 1e-6


def skew_bins(skew_N: np.ndarray) -> np.ndarray:
    """Bin of each absolute skew.

    >>> skew_bins(np.array([0.0, 1e-6, 1.1e-6, 0.1, 0.11, 1.0])).tolist()
    [0, 0, 1, 40, 41, 48]
    """
    steps = np.ceil((np.log10(np.maximum(skew_N, 1e-12)) + _DECADES) * _PER_DECADE - 1e-9)
    bins: np.ndarray = np.clip(steps, 0, NUM_SKEWS - 1).astype(np.int64)
    return bins


def skew_quantile(counts_S: np.ndarray, q: float) -> float | None:
    """Quantile of the absolute skew: the upper edge of its bin; None if there is nothing.

    >>> counts = np.bincount(skew_bins(np.array([0.0, 0.01, 0.01, 0.1])))
    >>> [round(skew_quantile(counts, q), 6) for q in (0.1, 0.5, 1.0)]
    [1e-06, 0.01, 0.1]
    """
    # A late label takes its negative back, perhaps in a later bucket than the one that counted it.
    reached_S = np.cumsum(np.maximum(counts_S, 0.0))
    if not len(reached_S) or reached_S[-1] <= 0:
        return None
    place = int(np.searchsorted(reached_S, q * reached_S[-1]))
    return float(10.0 ** (place / _PER_DECADE - _DECADES))


class _Rows:
    """Columns of N outcomes that are summed up."""

    def __init__(self, outcomes: ServedOutcomes) -> None:
        label, served, own = outcomes.label_N, outcomes.probability_N, outcomes.progressive_N
        weight = outcomes.sign_N * sampling_weights(label.astype(np.int8), outcomes.rate_N)
        p_2N = np.clip(np.stack([served, own]), _EPS, 1 - _EPS)
        losses_2N = -np.log(np.where(label, p_2N, 1 - p_2N))
        skew = served - own
        self.sums_XN = np.zeros((_NUM_SUMS, len(outcomes)))
        self.sums_XN[COUNT], self.sums_XN[WEIGHT] = ~outcomes.late_N, weight
        self.sums_XN[POSITIVE], self.sums_XN[PREDICTED] = weight * label, weight * served
        self.sums_XN[LOSS], self.sums_XN[LOSS_SQUARED] = weight * losses_2N[0], weight * losses_2N[0] ** 2
        self.sums_XN[REFERENCE_LOSS] = weight * losses_2N[1]
        self.sums_XN[BENEFIT_SQUARED] = weight * (losses_2N[1] - losses_2N[0]) ** 2
        self.sums_XN[SKEW], self.sums_XN[ABSOLUTE_SKEW] = weight * skew, weight * np.abs(skew)
        self._weight = weight
        self._skew_bin = skew_bins(np.abs(skew))
        self._bin = np.minimum((served * NUM_BINS).astype(np.int64), NUM_BINS - 1) + NUM_BINS * label

    def by(self, group_N: np.ndarray, num_groups: int) -> np.ndarray:
        """Sums over the outcomes of each group, shape (G, X)."""
        skews, bins = (
            np.bincount(group_N * size + bin_N, self._weight, num_groups * size).reshape(num_groups, size)
            for bin_N, size in ((self._skew_bin, NUM_SKEWS), (self._bin, 2 * NUM_BINS))
        )
        return np.hstack([sum_by_index(self.sums_XN, group_N, num_groups), skews, bins])


def add_outcomes(groups: Groups, outcomes: ServedOutcomes, cohorts_3N: np.ndarray) -> np.ndarray:
    """Take outcomes in; returns the sums over all of them, shape (X,).

    Args:
        groups: takes them.
        outcomes: N of them, at least one.
        cohorts_3N: cohorts of each.
    """
    rows = _Rows(outcomes)
    everything_1X = rows.by(np.zeros(len(outcomes), np.int64), 1)
    groups.put(EVERYTHING, [0], everything_1X)
    canary_N = outcomes.canary_N.astype(np.int64)
    for dimension, numbers_N in ((SHARE, canary_N), (ARM, outcomes.arm_N), *((COHORT, of_N) for of_N in cohorts_3N)):
        numbers, group_N = np.unique(numbers_N, return_inverse=True)
        groups.put(dimension, numbers, rows.by(group_N, len(numbers)))
    versions, group_N = np.unique(outcomes.version_N, return_inverse=True)
    groups.add_versions(versions, rows.by(group_N, len(versions)))
    sums_X: np.ndarray = everything_1X[0]
    return sums_X
