"""Figures of predictions with their replicates over users, and intervals of differences."""

import msgspec
import numpy as np

from simulators.experiments.statistics.replicates import drawn_users, replicated_auc, user_sums

NUM_REPLICATES = 1000
_INTERVAL = (2.5, 97.5)


class Interval(msgspec.Struct, frozen=True):
    """A figure, or a difference, with the middle 95 % of its replicates."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends have the same sign."""
        return self.low > 0 or self.high < 0


class UserBootstrap:
    """Users drawn anew, the same way for every model.

    Args:
        num_users: U.
        num_replicates: replicates, besides the figure itself.
        seed: of the draws.
    """

    def __init__(self, num_users: int, num_replicates: int = NUM_REPLICATES, seed: int = 0) -> None:
        self._counts_UR = drawn_users(num_users, num_replicates, seed)

    def auc(self, labels_N: np.ndarray, scores_N: np.ndarray, users_N: np.ndarray) -> np.ndarray:
        """AUC and its replicates, shape (1 + R,).

        Args:
            labels_N: 0 or 1.
            scores_N: what a model said.
            users_N: number of each sample's user, int64.
        """
        order_N = np.argsort(scores_N, kind="stable")
        # In order beforehand, so that memory is read one after the other.
        sorted_of = [np.ascontiguousarray(each[order_N]) for each in (scores_N, labels_N > 0, users_N)]
        scores, labels, users = sorted_of
        whole, ones = np.arange(len(scores)), np.ones(len(scores))
        return replicated_auc(scores, whole, labels, ones, users, self._counts_UR)

    def user_auc(self, labels_N: np.ndarray, scores_N: np.ndarray, users_N: np.ndarray) -> np.ndarray:
        """UAUC, AUC within each user weighted by the user's samples, and its replicates, shape (1 + R,)."""
        order_N, ones_N = np.lexsort((scores_N, users_N)), np.ones(len(scores_N))
        labels, users, size = labels_N > 0, users_N, len(self._counts_UR)
        above_U, below_U = user_sums(scores_N.astype(np.float64), order_N, labels, ones_N, users, size)
        counts_UR = self._counts_UR.astype(np.float64)
        found_R: np.ndarray = (above_U @ counts_UR) / (below_U @ counts_UR)
        return found_R


def interval(replicates_R: np.ndarray) -> Interval:
    """Of a figure, or of the difference of two on the same draws; the first is the value itself.

    >>> interval(np.array([2.0, 1.0, 2.0, 3.0]))
    Interval(value=2.0, low=1.05, high=2.95)
    """
    rest_R = replicates_R[1:][np.isfinite(replicates_R[1:])]
    low, high = np.percentile(rest_R, _INTERVAL) if len(rest_R) else (np.nan, np.nan)
    return Interval(float(replicates_R[0]), float(low), float(high))
