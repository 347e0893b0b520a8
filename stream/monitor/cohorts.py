"""Cohorts: fixed at impression time, from what the sample carries."""

import msgspec
import numpy as np

from stream.monitor.config import MonitorSettings

_DAY_MS = 86_400_000


class Cohort(msgspec.Struct, frozen=True):
    """One cohort of one dimension."""

    dimension: str
    """user, item or account."""
    name: str


def interval_names(edges: tuple[int, ...]) -> list[str]:
    """Names of the intervals between edges, from 0.

    >>> interval_names((1, 5, 200))
    ['0', '1-4', '5-199', '200+']
    """
    lows = (0, *edges)
    names = [str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in zip(lows, edges, strict=False)]
    return [*names, f"{edges[-1]}+"]


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
    """Sums over the samples of each cohort, shape (C, X).

    By sorting: a product with a one-hot matrix would be as short, but wakes the threads of the linear algebra library,
    which then get in the way of everything else on the machine.

    >>> sum_by_cohort(np.array([[1., 2., 4.]]), np.array([[0, 0, 1], [2, 3, 2]]), 4).ravel().tolist()
    [3.0, 4.0, 5.0, 2.0]
    """
    sums_CX = np.zeros((num_cohorts, len(values_XN)))
    for cohorts_N in cohorts_3N if len(values_XN.T) else ():
        order_N = np.argsort(cohorts_N, kind="stable")
        sorted_N = cohorts_N[order_N]
        starts = np.flatnonzero(np.diff(sorted_N, prepend=-1))
        sums_CX[sorted_N[starts]] = np.add.reduceat(values_XN[:, order_N], starts, axis=1).T
    return sums_CX
