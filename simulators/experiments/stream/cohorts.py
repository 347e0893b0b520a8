"""Impressions by how often their user, or their item, was shown before."""

from collections.abc import Iterator

import numpy as np

BOUNDS = (1, 5, 10, 50, 200)
NAMES = ("0", "1-4", "5-9", "10-49", "50-199", "200+")
ALL = "all"
COLD = ("users < 10", "items < 10")
"""What is asked about first; who is in it is not chosen after a look at the figures."""
FINER_COLD = ("users 0", "users 1-4", "users 5-9", "items 0", "items 1-4", "items 5-9")
_COLD_BELOW = 10


def numbers(counts_N: np.ndarray) -> np.ndarray:
    """Number of each impression's cohort.

    >>> numbers(np.array([0, 1, 4, 5, 200])).tolist()
    [0, 1, 1, 2, 5]
    """
    numbers_N: np.ndarray = np.searchsorted(BOUNDS, counts_N, side="right")
    return numbers_N


def cohorts_of(user_counts_N: np.ndarray, item_counts_N: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> which impressions; all of them first.

    Args:
        user_counts_N: earlier impressions of each one's user.
        item_counts_N: of its item.
    """
    yield ALL, np.ones(len(user_counts_N), np.bool_)
    for kind, counts_N in (("users", user_counts_N), ("items", item_counts_N)):
        numbers_N = numbers(counts_N)
        for number, name in enumerate(NAMES):
            yield f"{kind} {name}", numbers_N == number
        yield f"{kind} < {_COLD_BELOW}", counts_N < _COLD_BELOW
