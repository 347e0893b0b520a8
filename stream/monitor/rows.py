"""What is kept of a sample until it is summed up, and of a negative for as long as a late label may turn it."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import polars as pl

from learner.learner import Learned
from learner.sample import Sample, SampleKind

NUM_COLUMNS = 10
USER_N, ITEM_N, TS, FIRST_TS, PREDICTION, REFERENCE, LABEL, RATE, SIGN, ONCE = range(NUM_COLUMNS)
"""Earlier impressions of user and item, event times (ms), predictions, label, share of the negatives that are kept; -1
where a negative is taken back, else 1; whether the sample counts as an impression."""
_ROW_BYTES = 4 * NUM_COLUMNS
_MAX_OPEN = 200_000


def rows_of(samples: Sequence[Sample], learned: Learned, reference_B: np.ndarray) -> np.ndarray:
    """One column per sample, shape (NUM_COLUMNS, B).

    Args:
        samples: B of them.
        learned: what the learner predicted.
        reference_B: what it is compared with predicted.
    """
    counts_BC, half = learned.counts_BC, learned.counts_BC.shape[1] // 2
    rows = np.empty((NUM_COLUMNS, len(samples)))
    rows[USER_N], rows[ITEM_N] = counts_BC[:, 0], counts_BC[:, half]
    rows[TS] = [s.core.ts for s in samples]
    rows[FIRST_TS] = [s.state.user_first_ts for s in samples]
    rows[PREDICTION], rows[REFERENCE], rows[LABEL] = learned.predictions_B, reference_B, learned.labels_B
    rows[RATE] = [s.state.negative_rate for s in samples]
    rows[SIGN] = rows[ONCE] = 1.0
    return rows


class OpenNegatives:
    """Negatives that a late label may still turn, the newest of them."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, bytes] = OrderedDict()

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
        for imp_id, row in zip(negatives["imp_id"], rows, strict=True):
            self._rows[imp_id] = row.tobytes()

    def keep(self, samples: Sequence[Sample], rows: np.ndarray, negatives: Sequence[int]) -> None:
        """Keep the negatives of a micro-batch, given by their places in it."""
        packed = rows.T.astype(np.float32).tobytes()
        for b in negatives:
            self._rows[samples[b].core.imp_id] = packed[b * _ROW_BYTES : (b + 1) * _ROW_BYTES]
        while len(self._rows) > _MAX_OPEN:
            self._rows.popitem(last=False)

    def turn(self, imp_id: str) -> np.ndarray | None:
        """The row of a negative whose label came late, marked as one to take back; None if it is not known."""
        known = self._rows.pop(imp_id, None)
        if known is None:
            return None
        row = np.frombuffer(known, np.float32).astype(np.float64)
        row[SIGN], row[ONCE] = -1.0, 0.0
        return row
