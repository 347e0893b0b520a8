"""State signals: how well user and item are known, as of the impression; the gate's input (r_count, AdaF2M2 3.4)."""

from collections.abc import Callable, Sequence

import numpy as np

from learner.samples.columns import Samples

_PSEUDO_COUNT = 2.5
_HOUR_MS = 3_600_000.0


class Known:
    """Counters and times of B samples, as floats.

    Args:
        samples: the samples.
        positive: the actions, by number, that make the label 1.
    """

    def __init__(self, samples: Samples, positive: Sequence[int]) -> None:
        rows = samples.rows_B
        self.user_N = rows["user_counts"][:, 0].astype(np.float64)
        self.item_N = rows["item_counts"][:, 0].astype(np.float64)
        self.item_positives_N = np.minimum(
            rows["item_counts"][:, [1 + action for action in positive]].sum(axis=1, dtype=np.float64), self.item_N
        )
        ts = rows["ts"].astype(np.float64)
        last, first = rows["user_last_ts"], rows["user_first_ts"]
        self.gap_s_N = np.where(last > 0, np.maximum(ts - last, 0.0) / 1000.0, 0.0)
        age_ms_N = np.where(first > 0, np.maximum(ts - first, 0.0), 0.0)
        self.account_h_N = age_ms_N / _HOUR_MS
        self.pace_s_N = age_ms_N / 1000.0 / np.maximum(self.user_N, 1.0)


def _item_rate(known: Known) -> np.ndarray:
    negatives = known.item_N - known.item_positives_N
    rate: np.ndarray = np.log((known.item_positives_N + _PSEUDO_COUNT) / (negatives + _PSEUDO_COUNT))
    return rate


SIGNALS: dict[str, Callable[[Known], np.ndarray]] = {
    "user_count": lambda known: np.log1p(known.user_N),
    "user_inverse": lambda known: 1.0 / (1.0 + known.user_N),
    "item_count": lambda known: np.log1p(known.item_N),
    "item_inverse": lambda known: 1.0 / (1.0 + known.item_N),
    "item_positives": lambda known: np.log1p(known.item_positives_N),
    "item_rate": _item_rate,
    "user_gap": lambda known: np.log1p(known.gap_s_N),
    "user_pace": lambda known: np.log1p(known.pace_s_N),
    "account_age": lambda known: np.log1p(known.account_h_N),
}
"""By name: logarithms of counts, their inverses, the item's log-odds; seconds since the user's last impression, and
between two of them in the mean so far; hours since the first one. Not the user's own rate: it raises AUC and ruins the
order within a user."""
TIMED = {"user_gap", "user_pace", "account_age"}
"""Those that go by the clock."""


def signals_of(samples: Samples, names: Sequence[str], positive: Sequence[int]) -> np.ndarray:
    """Raw signals, shape (B, S), float32.

    Args:
        samples: B of them.
        names: S keys of `SIGNALS`.
        positive: the actions, by number, that make the label 1.
    """
    known = Known(samples, positive)
    signals_BS = np.empty((len(samples), len(names)), np.float32)
    for column, name in enumerate(names):
        signals_BS[:, column] = SIGNALS[name](known)
    return signals_BS
