"""What is kept of a sample until it is summed up, and of a negative for as long as a late label may turn it."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from learner.learned import Learned
from learner.samples.kind import SampleKind
from stream.monitor.figures.bucket import ADAPTER, ITEM_NORM, UNSEEN_ITEM, UNSEEN_USER, USER_NORM
from stream.predictions.columns import Logged

NUM_COLUMNS = 11
USER_N, ITEM_N, TS, FIRST_TS, PREDICTION, RANK, REFERENCE, LABEL, RATE, SIGN, ONCE = range(NUM_COLUMNS)
"""Earlier impressions of user and item, event times (ms), predictions, label, share of the negatives that are kept; -1
where a negative is taken back, else 1; whether the sample counts as an impression."""
_OF_LOG = (
    (USER_N, "user_impressions"),
    (ITEM_N, "item_impressions"),
    (TS, "ts"),
    (FIRST_TS, "user_first_ts"),
    (PREDICTION, "prediction"),
    (RANK, "rank_score"),
    (REFERENCE, "baseline"),
    (LABEL, "label"),
    (RATE, "negative_rate"),
)
"""Columns that are in the prediction log, too."""
MAX_OPEN = 100_000
"""Negatives in a generation."""


def rows_of(logged: Sequence[Logged], *, room: int) -> np.ndarray:
    """One column per sample, shape (NUM_COLUMNS, N + room).

    Args:
        logged: what is logged of N samples, block by block; the baseline is what the model is compared with.
        room: columns behind them that are left as they are.
    """
    num_samples = sum(len(one.imp_id) for one in logged)
    rows = np.empty((NUM_COLUMNS, num_samples + room))
    of = rows[:, :num_samples]
    for row, name in _OF_LOG:
        np.concatenate([getattr(one, name) for one in logged], out=of[row], casting="unsafe")
    of[SIGN] = of[ONCE] = 1.0
    return rows


def known_of(learned: Sequence[Learned], num_weights: int, num_columns: int, turned: np.ndarray) -> np.ndarray:
    """Columns as of a bucket's sums, shape (M, num_columns); what the model knew of each sample is filled in.

    Args:
        learned: block by block.
        num_weights: K.
        num_columns: samples, and behind them room for those that turn a label.
        turned: which samples turn a label; they were counted when their impressions were.
    """
    columns = np.zeros((ADAPTER + num_weights, num_columns), np.float32)
    known = columns[:, : num_columns - len(turned)]
    known[[UNSEEN_USER, UNSEEN_ITEM]] = np.concatenate([one.unseen_B2 for one in learned]).T
    known[[USER_NORM, ITEM_NORM]] = np.concatenate([one.norms_B2 for one in learned]).T
    weights = [one.weights_BK for one in learned if one.weights_BK is not None]
    if len(weights) == len(learned):
        known[ADAPTER:] = np.concatenate(weights).T
    known[:, turned] = 0.0
    return columns


class _Generation:
    """Impressions and their rows."""

    def __init__(self, like: np.ndarray) -> None:
        self.places: dict[str, int] = {}
        self.rows = np.empty((MAX_OPEN, *like.shape), like.dtype)
        self.num_rows = 0


class Newest:
    """Rows of the newest impressions.

    In two generations: once the younger one is full, the older one is forgotten as a whole. That costs nothing per
    impression, where taking the oldest one out each time would.

    Args:
        like: a row.

    >>> newest = Newest(np.zeros((), np.int64))
    >>> newest.keep(["a", "b"], np.array([3, 4]))
    >>> int(newest.pop("b")), newest.pop("b")
    (4, None)
    """

    def __init__(self, like: np.ndarray) -> None:
        self._like = like
        self._younger, self._older = _Generation(like), _Generation(like)

    def keep(self, imp_ids: Sequence[str], rows: np.ndarray) -> None:
        """Keep N impressions.

        Args:
            imp_ids: their ids.
            rows: of each, shape (N, ...).
        """
        young = self._younger
        end = young.num_rows + len(rows)
        if end > len(young.rows):
            young.rows = np.concatenate([young.rows[: young.num_rows], rows])
        else:
            young.rows[young.num_rows : end] = rows
        young.places.update(zip(imp_ids, range(young.num_rows, end), strict=True))
        young.num_rows = end
        if end >= MAX_OPEN:
            self._older, self._younger = young, _Generation(self._like)

    def pop(self, imp_id: str) -> np.ndarray | None:
        """The row of an impression, which is not kept any longer; None if it was not."""
        for generation in (self._younger, self._older):
            place = generation.places.pop(imp_id, None)
            if place is not None:
                row: np.ndarray = generation.rows[place].copy()
                return row
        return None


class OpenNegatives:
    """Negatives that a late label may still turn, the newest of them."""

    def __init__(self) -> None:
        self._newest = Newest(np.zeros(NUM_COLUMNS, np.float32))

    def remember(self, predictions: pl.DataFrame) -> None:
        """Know the negatives of a prediction log again.

        Args:
            predictions: rows of the log, oldest first.
        """
        turned = predictions.filter(pl.col("kind") == int(SampleKind.CORRECTION))["imp_id"]
        negatives = predictions.filter(
            (pl.col("kind") == int(SampleKind.NEGATIVE)) & ~pl.col("imp_id").is_in(turned.implode())
        ).tail(MAX_OPEN)
        rows = np.zeros((len(negatives), NUM_COLUMNS), np.float32)
        for column, name in _OF_LOG:
            rows[:, column] = negatives[name].to_numpy()
        rows[:, SIGN] = rows[:, ONCE] = 1.0
        self.keep(negatives["imp_id"].to_list(), rows)

    def keep(self, imp_ids: Sequence[str], rows: np.ndarray) -> None:
        """Keep N negatives.

        Args:
            imp_ids: their impressions.
            rows: shape (N, NUM_COLUMNS).
        """
        self._newest.keep(imp_ids, rows)

    def turn(self, imp_id: str) -> np.ndarray | None:
        """The row of a negative whose label came late, marked as one to take back; None if it is not known."""
        kept = self._newest.pop(imp_id)
        if kept is None:
            return None
        row: np.ndarray = kept.astype(np.float64)
        row[SIGN], row[ONCE] = -1.0, 0.0
        return row
