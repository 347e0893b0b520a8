"""Impressions by how many entries the user's history had."""

from collections.abc import Iterator

import numpy as np

from simulators.experiments.stream.cohorts import ALL

_LOWS = (0, 1, 10, 20, 50, 100)
USERS = "users < 10"
_COLD_BELOW = 10


def cohorts_of(entries_N: np.ndarray, user_counts_N: np.ndarray, most: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> which impressions; all of them first, then those of users who were hardly seen.

    Args:
        entries_N: of the history of each impression, at most `most`.
        user_counts_N: earlier impressions of its user.
        most: entries that a history has at most.

    >>> [(name, found.tolist()) for name, found in cohorts_of(np.array([0, 3, 10]), np.array([0, 10, 30]), 10)]
    [('all', [True, True, True]), ('users < 10', [True, False, False]), ('0 entries', [True, False, False]), \
('1-9 entries', [False, True, False]), ('10 entries', [False, False, True])]
    """
    yield ALL, np.ones(len(entries_N), np.bool_)
    yield USERS, user_counts_N < _COLD_BELOW
    lows = [low for low in _LOWS if low < most] + [most]
    for low, after in zip(lows, [*lows[1:], most + 1], strict=True):
        name = f"{low}" if after == low + 1 else f"{low}-{after - 1}"
        yield f"{name} entries", (entries_N >= low) & (entries_N < after)
