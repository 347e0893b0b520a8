"""Cohorts: fixed at impression time, from what the sample carries."""

import msgspec
import numpy as np

from stream.sections import MonitorSettings, interval_names

_DAY_MS = 86_400_000
_IN_ONE_THREAD = 1 << 17
"""Multiplications of a product that OpenBLAS does where it is asked for; it has others help with twice as many."""


class Cohort(msgspec.Struct, frozen=True):
    """One cohort of one dimension."""

    dimension: str
    """user, item or account."""
    name: str


class CohortScheme:
    """Every cohort of the settings, numbered; a sample is in one of each dimension.

    Args:
        settings: the monitor section.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self._edges = (settings.user_impressions, settings.item_impressions, settings.account_days)
        self.cohorts = [
            Cohort(dimension, name)
            for dimension, edges in zip(("user", "item", "account"), self._edges, strict=True)
            for name in interval_names(edges)
        ]
        sizes = [len(edges) + 1 for edges in self._edges]
        self._firsts = np.cumsum([0, *sizes[:-1]])
        self.num_users = sizes[0]
        """The first so many cohorts are those of users."""

    def __len__(self) -> int:
        return len(self.cohorts)

    def assign(
        self, user_impressions_B: np.ndarray, item_impressions_B: np.ndarray, ts_B: np.ndarray, first_ts_B: np.ndarray
    ) -> np.ndarray:
        """Cohort numbers, shape (3, B).

        Args:
            user_impressions_B: the user's earlier impressions.
            item_impressions_B: the item's.
            ts_B: event time, ms.
            first_ts_B: event time of the user's first impression, ms; 0 where this is the first.
        """
        days_B = np.where(first_ts_B > 0, np.maximum(ts_B - first_ts_B, 0) // _DAY_MS, 0)
        values = (user_impressions_B, item_impressions_B, days_B)
        return np.stack(
            [
                first + np.searchsorted(edges, value_B, side="right")
                for first, edges, value_B in zip(self._firsts, self._edges, values, strict=True)
            ]
        )


def sum_by_cohort(values_XN: np.ndarray, cohorts_3N: np.ndarray, num_cohorts: int) -> np.ndarray:
    """Sums over the samples of each cohort, shape (C, X), in single precision.

    A product with a one-hot matrix, a few samples at a time: larger products NumPy does with a thread on every core,
    which would get in the way of everything else.

    >>> sum_by_cohort(np.array([[1., 2., 4.]]), np.array([[0, 0, 1], [2, 3, 2]]), 4).ravel().tolist()
    [3.0, 4.0, 5.0, 2.0]
    """
    num_samples = cohorts_3N.shape[1]
    member_CN = np.zeros((num_cohorts, num_samples), np.float32)
    member_CN[cohorts_3N, np.arange(num_samples)] = 1.0
    values_XN = values_XN.astype(np.float32, copy=False)
    sums_CX = np.zeros((num_cohorts, len(values_XN)), np.float32)
    size = max(1, _IN_ONE_THREAD // max(1, sums_CX.size))
    for begin in range(0, num_samples, size):
        sums_CX += member_CN[:, begin : begin + size] @ values_XN[:, begin : begin + size].T
    return sums_CX


def sum_by_index(values_XN: np.ndarray, index_N: np.ndarray, size: int) -> np.ndarray:
    """Sums over the samples of each index, shape (size, X): for more indices than a one-hot matrix is good for.

    >>> sum_by_index(np.array([[1., 2., 4.], [1., 1., 1.]]), np.array([0, 2, 0]), 3).tolist()
    [[5.0, 2.0], [0.0, 0.0], [2.0, 1.0]]
    """
    flat = (np.arange(len(values_XN))[:, None] * size + index_N).ravel()
    sums_XI: np.ndarray = np.bincount(flat, values_XN.ravel(), len(values_XN) * size).reshape(-1, size)
    return sums_XI.T
