"""What is kept of a sample until it is summed up, and of a negative for as long as a late label may turn it."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import repeat

import numpy as np
import polars as pl

from learner.sample import Sample, SampleKind

NUM_COLUMNS = 10
USER_N, ITEM_N, TS, FIRST_TS, PREDICTION, REFERENCE, LABEL, RATE, SIGN, ONCE = range(NUM_COLUMNS)
"""Earlier impressions of user and item, event times (ms), predictions, label, share of the negatives that are kept; -1
where a negative is taken back, else 1; whether the sample counts as an impression."""
_MAX_OPEN = 200_000


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


class OpenNegatives:
    """Negatives that a late label may still turn, the newest of them."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, tuple[np.ndarray, int]] = OrderedDict()
        """Impression -> the rows of its micro-batch, shape (B, NUM_COLUMNS), and its place among them."""

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
        self._rows.update(zip(negatives["imp_id"], zip(repeat(rows), range(len(rows))), strict=True))

    def keep(self, samples: Sequence[Sample], rows: np.ndarray, negatives: Sequence[int]) -> None:
        """Keep the negatives of a micro-batch, given by their places in it."""
        kept = rows.T.astype(np.float32)
        self._rows.update(zip([samples[b].core.imp_id for b in negatives], zip(repeat(kept), negatives), strict=False))
        while len(self._rows) > _MAX_OPEN:
            self._rows.popitem(last=False)

    def turn(self, imp_id: str) -> np.ndarray | None:
        """The row of a negative whose label came late, marked as one to take back; None if it is not known."""
        known = self._rows.pop(imp_id, None)
        if known is None:
            return None
        rows, place = known
        row: np.ndarray = rows[place].astype(np.float64)
        row[SIGN], row[ONCE] = -1.0, 0.0
        return row
