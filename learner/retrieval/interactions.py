"""Samples of users and items by number, and what was counted of either before each.

Legend: N samples, E entities.
"""

from typing import NamedTuple

import numpy as np


class Interactions(NamedTuple):
    """N samples, in the order of time where that matters."""

    users_N: np.ndarray
    """int64, numbers of users."""
    items_N: np.ndarray
    labels_N: np.ndarray
    """0 or 1."""
    ts_N: np.ndarray
    """int64, event time in UTC milliseconds."""

    def take(self, chosen: np.ndarray | slice) -> "Interactions":
        """Some of them: by index, mask or slice."""
        return Interactions(*(column[chosen] for column in self))


class Pairs(NamedTuple):
    """B samples with the state of either side, as a model learns from them."""

    users_B: np.ndarray
    items_B: np.ndarray
    labels_B: np.ndarray
    user_counts_B2: np.ndarray
    """Impressions and positives."""
    item_counts_B2: np.ndarray

    def take(self, chosen: np.ndarray | slice) -> "Pairs":
        """Some of them."""
        return Pairs(*(column[chosen] for column in self))


def counted(entities_N: np.ndarray, labels_N: np.ndarray, num_entities: int) -> np.ndarray:
    """Impressions and positives of each entity, shape (E, 2), int64.

    >>> counted(np.array([0, 2, 2]), np.array([1, 0, 1]), 3).tolist()
    [[1, 1], [0, 0], [2, 1]]
    """
    impressions_E = np.bincount(entities_N, minlength=num_entities)
    positives_E = np.bincount(entities_N[labels_N > 0], minlength=num_entities)
    return np.stack([impressions_E, positives_E], axis=1).astype(np.int64)


def counts_before(entities_N: np.ndarray, labels_N: np.ndarray, before_E2: np.ndarray) -> np.ndarray:
    """Impressions and positives of each sample's entity just before it, shape (N, 2), int64.

    Args:
        entities_N: numbers, in order.
        labels_N: 0 or 1.
        before_E2: what was counted before the first sample.

    >>> counts_before(np.array([0, 1, 0]), np.array([1, 0, 0]), np.array([[5, 2], [0, 0]])).tolist()
    [[5, 2], [0, 0], [6, 3]]
    """
    order_N = np.argsort(entities_N, kind="stable")
    sorted_N, is_positive_N = entities_N[order_N], labels_N[order_N] > 0
    begins_N = np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]])[: len(sorted_N)]
    starts = np.flatnonzero(begins_N)
    lengths = np.diff(np.concatenate([starts, [len(sorted_N)]]))
    earlier_N = np.arange(len(sorted_N)) - np.repeat(starts, lengths)
    sums_N: np.ndarray = np.cumsum(is_positive_N) - is_positive_N
    earlier_positives_N: np.ndarray = sums_N - np.repeat(sums_N[starts], lengths)
    counts_N2 = np.empty((len(sorted_N), 2), np.int64)
    counts_N2[order_N] = before_E2[sorted_N] + np.stack([earlier_N, earlier_positives_N], axis=1)
    return counts_N2
