"""What weights would have earned on logged outcomes: the normalised discounted gain of each user's list in their order.

    reward(list) = sum_i g_i / log2(1 + rank_i) / the most that its gains could give,  rank_i <= depth

(Jaervelin and Kekaelaeinen, TOIS 2002), g_i: what the labels of impression i are worth together. Only what was shown is
ordered anew: it is a reward of the order among logged impressions, and says nothing of what was never shown.

Legend: N impressions, T tasks, L lists.
"""

from typing import NamedTuple

import numpy as np


class Outcomes(NamedTuple):
    """Impressions with what came of them."""

    predictions_NT: np.ndarray
    """As served."""
    labels_NT: np.ndarray
    """Final ones."""
    users_N: np.ndarray
    """Numbers of users."""
    lists_N: np.ndarray
    """Numbers of lists, as of a user's session or day: what is in one is ordered together."""
    ts_N: np.ndarray
    """Event times, ms."""

    def take(self, chosen_N: np.ndarray) -> "Outcomes":
        """Those where `chosen_N` is true, or of these places."""
        return Outcomes(*(column[chosen_N] for column in self))


class Lists:
    """Lists in which something can be ordered: of two impressions or more that are not worth the same.

    Args:
        lists_N: which list each impression is in.
        gains_N: what its labels are worth.
        depth: places that count.

    >>> lists = Lists(np.array([1, 1, 2]), np.array([0.0, 1.0, 1.0]), depth=10)
    >>> lists.chosen_N.tolist(), [lists.rewards(np.array(s)).round(3).tolist() for s in ([1.0, 2.0], [2.0, 1.0])]
    ([0, 1], [[1.0], [0.631]])
    """

    def __init__(self, lists_N: np.ndarray, gains_N: np.ndarray, depth: int) -> None:
        _, of_N, sizes = np.unique(lists_N, return_inverse=True, return_counts=True)
        least, most = np.full(len(sizes), np.inf), np.full(len(sizes), -np.inf)
        np.minimum.at(least, of_N, gains_N)
        np.maximum.at(most, of_N, gains_N)
        self.chosen_N = np.flatnonzero((most > least)[of_N])
        """Places of the impressions in them, in the order in which scores are to be given."""
        _, self._of_N, self._sizes_L = np.unique(lists_N[self.chosen_N], return_inverse=True, return_counts=True)
        self._gains_N, self._depth = gains_N[self.chosen_N].astype(np.float64), depth
        self._starts_L = np.cumsum(self._sizes_L) - self._sizes_L
        self._ideal_L = np.ones(len(self._sizes_L))
        self._ideal_L = self._gained(self._gains_N)

    def __len__(self) -> int:
        return len(self._sizes_L)

    def rewards(self, scores_N: np.ndarray) -> np.ndarray:
        """Of each list, shape (L,), 0 to 1; scores are those of `chosen_N`. Ties go by the order in the log."""
        rewards_L: np.ndarray = self._gained(scores_N) / self._ideal_L
        return rewards_L

    def _gained(self, scores_N: np.ndarray) -> np.ndarray:
        order_N = np.lexsort((-scores_N, self._of_N))
        ranks_N = np.arange(len(order_N)) - np.repeat(self._starts_L, self._sizes_L)
        discount_N = np.where(ranks_N < self._depth, 1.0 / np.log2(ranks_N + 2.0), 0.0)
        gained_N = self._gains_N[order_N] * discount_N
        return np.bincount(self._of_N[order_N], gained_N, len(self._sizes_L))
