"""What is kept of a sample until it is summed up, and of a negative for as long as a late label may turn it."""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import polars as pl

from learner.sample import Sample, SampleKind

NUM_COLUMNS = 10
USER_N, ITEM_N, TS, FIRST_TS, PREDICTION, REFERENCE, LABEL, RATE, SIGN, ONCE = range(NUM_COLUMNS)
"""Earlier impressions of user and item, event times (ms), predictions, label, share of the negatives that are kept; -1
where a negative is taken back, else 1; whether the sample counts as an impression."""
_MAX_OPEN = 100_000


def rows_of(
    samples: Sequence[Sample], labels: np.ndarray, predictions: np.ndarray, references: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """One column per sample, shape (NUM_COLUMNS, N).

    Args:
        samples: N of them.
        labels: theirs.
        predictions: of the model.
        references: of what it is compared with.
        counts: the user's counters, then the item's, shape (N, C).
    """
    rows = np.empty((NUM_COLUMNS, len(samples)))
    rows[USER_N], rows[ITEM_N] = counts[:, 0], counts[:, counts.shape[1] // 2]
    rows[TS] = [s.core.ts for s in samples]
    rows[FIRST_TS] = [s.state.user_first_ts for s in samples]
    rows[PREDICTION], rows[REFERENCE], rows[LABEL] = predictions, references, labels
    rows[RATE] = [s.state.negative_rate for s in samples]
    rows[SIGN] = rows[ONCE] = 1.0
    return rows


_Places = dict[str, tuple[np.ndarray, int]]
"""Impression -> the rows that it is one of, shape (N, NUM_COLUMNS), and its place among them."""


class OpenNegatives:
    """Negatives that a late label may still turn, the newest of them.

    In two generations: once the younger one is full, the older one is forgotten as a whole. That costs nothing per
    negative, where taking the oldest one out each time would.
    """

    def __init__(self) -> None:
        self._younger: _Places = {}
        self._older: _Places = {}

    def remember(self, predictions: pl.DataFrame) -> None:
        """Know the negatives of a prediction log again.

        Args:
            predictions: rows of the log, oldest first.
        """
        turned = predictions.filter(pl.col("kind") == int(SampleKind.CORRECTION))["imp_id"]
        negatives = predictions.filter(
            (pl.col("kind") == int(SampleKind.NEGATIVE)) & ~pl.col("imp_id").is_in(turned.implode())
        ).tail(_MAX_OPEN)
        rows = np.zeros((len(negatives), NUM_COLUMNS), np.float32)
        for column, name in (
            (USER_N, "user_impressions"),
            (ITEM_N, "item_impressions"),
            (TS, "ts"),
            (FIRST_TS, "user_first_ts"),
            (PREDICTION, "prediction"),
            (REFERENCE, "baseline"),
            (RATE, "negative_rate"),
        ):
            rows[:, column] = negatives[name].to_numpy()
        rows[:, SIGN] = rows[:, ONCE] = 1.0
        self._younger.update(zip(negatives["imp_id"], zip(repeat(rows), range(len(rows))), strict=True))

    def keep(self, samples: Sequence[Sample], rows: np.ndarray, negatives: Sequence[int]) -> None:
        """Keep the negatives among samples, given by their places."""
        kept = rows[:, negatives].T.astype(np.float32)
        imp_ids = [samples[n].core.imp_id for n in negatives]
        self._younger.update(zip(imp_ids, zip(repeat(kept), range(len(negatives))), strict=False))
        if len(self._younger) > _MAX_OPEN:
            self._older, self._younger = self._younger, {}

    def turn(self, imp_id: str) -> np.ndarray | None:
        """The row of a negative whose label came late, marked as one to take back; None if it is not known."""
        known = self._younger.pop(imp_id, None) or self._older.pop(imp_id, None)
        if known is None:
            return None
        rows, place = known
        row: np.ndarray = rows[place].astype(np.float64)
        row[SIGN], row[ONCE] = -1.0, 0.0
        return row
