"""DeLong's test: is the difference of two AUCs on the same samples more than chance?

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves" (Biometrics 44, 1988); by midranks in O(N log N) as Sun and Xu, "Fast implementation of DeLong's algorithm"
(IEEE Signal Processing Letters 21, 2014). It takes samples for independent; `bootstrap` does so with users only.

Legend: N samples, P positives, Q negatives, 2 models.
"""

import math

import msgspec
import numpy as np

_Z = 1.959963984540054


class Comparison(msgspec.Struct, frozen=True):
    """Two models on the same samples."""

    aucs: tuple[float, float]
    difference: float
    """Of the second to the first."""
    error: float
    """Standard error of the difference."""
    low: float
    """Its 95 % interval."""
    high: float
    p: float
    """Probability of such a difference, of either sign, if there were none."""


def compare(labels_N: np.ndarray, first_N: np.ndarray, second_N: np.ndarray) -> Comparison:
    """DeLong's paired test.

    Args:
        labels_N: 0 or 1; both are needed.
        first_N, second_N: what the models said.

    Raises:
        ValueError: there are fewer than two positives or negatives.

    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> found = compare(labels, np.array([.1, .4, .6, .5, .3, .9]), np.array([.1, .2, .3, .4, .5, .6]))
    >>> [round(value, 4) for value in (*found.aucs, found.error, found.p)]
    [0.6667, 1.0, 0.2722, 0.2207]
    """
    is_positive_N = labels_N > 0
    num_positives, num_negatives = int(is_positive_N.sum()), int((~is_positive_N).sum())
    if min(num_positives, num_negatives) < 2:
        raise ValueError(
            f"DeLong's test needs two positives and two negatives at least, got {num_positives} and {num_negatives}"
        )
    aucs_2, of_positives_2P, of_negatives_2Q = [], [], []
    for scores_N in (first_N, second_N):
        positive_P, negative_Q = placements(is_positive_N, scores_N)
        aucs_2.append(float(positive_P.mean()))
        of_positives_2P.append(positive_P)
        of_negatives_2Q.append(negative_Q)
    covariance_22 = np.cov(of_positives_2P) / num_positives + np.cov(of_negatives_2Q) / num_negatives
    variance = covariance_22[0, 0] + covariance_22[1, 1] - 2 * covariance_22[0, 1]
    difference, error = aucs_2[1] - aucs_2[0], math.sqrt(max(float(variance), 0.0))
    z = abs(difference) / error if error > 0 else math.inf if difference else 0.0
    p = math.erfc(z / math.sqrt(2))
    return Comparison((aucs_2[0], aucs_2[1]), difference, error, difference - _Z * error, difference + _Z * error, p)


def placements(is_positive_N: np.ndarray, scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the negatives that each positive is above, and of the positives that each negative is below; ties halve.

    (DeLong's structural components V10 and V01; eq. 5 to 8 of Sun and Xu.)
    """
    scores_N = scores_N.astype(np.float64)
    positive_P, negative_Q = scores_N[is_positive_N], scores_N[~is_positive_N]
    ranks_N = midranks(scores_N)
    above_P = (ranks_N[is_positive_N] - midranks(positive_P)) / len(negative_Q)
    below_Q = 1.0 - (ranks_N[~is_positive_N] - midranks(negative_Q)) / len(positive_P)
    return above_P, below_Q


def midranks(values_N: np.ndarray) -> np.ndarray:
    """Ranks from 1; those of equal values are their mean.

    >>> midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    _, group_N, sizes_G = np.unique(values_N, return_inverse=True, return_counts=True)
    ends_G = np.cumsum(sizes_G)
    ranks_N: np.ndarray = (ends_G - (sizes_G - 1) / 2)[group_N]
    return ranks_N
