"""Joined samples -> outcomes of what was served; a late label finds the negative that it takes back."""

from collections.abc import Sequence
from itertools import compress

import numpy as np
import polars as pl

from learner.learned import Learned
from learner.samples.columns import Samples
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from stream.monitor.figures.rows import MAX_OPEN, Newest
from stream.served import ServedOutcomes

_ROW = np.dtype(
    [
        ("users_N", "<u8"),
        ("user_impressions_N", "<i4"),
        ("item_impressions_N", "<i4"),
        ("first_ts_N", "<i8"),
        ("probability_N", "<f8"),
        ("version_N", "<i8"),
        ("other_N", "<f8"),
        ("arm_N", "<u8"),
        ("canary_N", "?"),
        ("label_N", "?"),
        ("sign_N", "i1"),
        ("late_N", "?"),
        ("rate_N", "<f8"),
        ("progressive_N", "<f8"),
        ("ts_N", "<i8"),
    ]
)
"""An outcome; columns as of `ServedOutcomes`."""
_OF_SAMPLE = {
    "first_ts_N": "user_first_ts",
    "probability_N": "served_probability",
    "version_N": "served_version",
    "other_N": "served_other",
    "arm_N": "served_arm",
    "canary_N": "served_canary",
    "rate_N": "negative_rate",
    "ts_N": "ts",
}
"""Columns that samples and the prediction log have by one name."""


class OutcomeJoin:
    """Remembers the negatives among what was served, the newest of them."""

    def __init__(self) -> None:
        self._open = Newest(np.zeros((), _ROW))

    def remember(self, predictions: pl.DataFrame) -> None:
        """Know the negatives of a prediction log again.

        Args:
            predictions: rows of the log, oldest first.
        """
        kind = pl.col("kind")
        turned = predictions.filter(kind == int(SampleKind.CORRECTION))["imp_id"]
        is_open = (kind == int(SampleKind.NEGATIVE)) & ~pl.col("imp_id").is_in(turned.implode())
        known = pl.col("served_probability").is_not_null() & pl.col("prediction").is_finite()
        found = predictions.filter(is_open & known).tail(MAX_OPEN)
        rows = np.zeros(len(found), _ROW)
        for column, name in _OF_SAMPLE.items():
            rows[column] = found[name].fill_null(float("nan") if name == "served_other" else 0).to_numpy()
        rows["users_N"] = [value_key("user_id", user) for user in found["user_id"]]
        rows["user_impressions_N"] = found["user_impressions"].to_numpy()
        rows["item_impressions_N"] = found["item_impressions"].to_numpy()
        rows["progressive_N"], rows["sign_N"] = found["prediction"].to_numpy(), 1
        self._open.keep(found["imp_id"].to_list(), rows)

    def join(self, samples: Samples, learned: Learned) -> ServedOutcomes | None:
        """What became known by a block; None if nothing of it was served.

        Args:
            samples: those that bring a label of the main task.
            learned: what the learner predicted of them.
        """
        is_served_B = ~np.isnan(samples.rows_B["served_probability"])
        if not is_served_B.any():
            return None
        is_first_B = is_served_B & ~learned.corrections_B & np.isfinite(learned.predictions_B)
        rows = _rows_of(samples, learned, is_first_B)
        imp_ids = list(compress(samples.imp_ids, is_first_B.tolist()))
        is_negative = ~rows["label_N"]
        self._open.keep(list(compress(imp_ids, is_negative.tolist())), rows[is_negative])
        late = self._turned(list(compress(samples.imp_ids, (is_served_B & learned.corrections_B).tolist())))
        whole = np.concatenate([rows, late])
        return ServedOutcomes(**{name: whole[name] for name in _ROW.names or ()})

    def _turned(self, imp_ids: Sequence[str]) -> np.ndarray:
        """The pairs of rows of those that are remembered."""
        found = [row for row in map(self._open.pop, imp_ids) if row is not None]
        back = np.array(found, _ROW)
        again = back.copy()
        back["late_N"] = again["late_N"] = again["label_N"] = True
        back["sign_N"] = -1
        return np.stack([back, again], axis=1).ravel()


def _rows_of(samples: Samples, learned: Learned, chosen_B: np.ndarray) -> np.ndarray:
    of = samples.rows_B[chosen_B]
    rows = np.zeros(len(of), _ROW)
    for column, name in _OF_SAMPLE.items():
        rows[column] = of[name]
    rows["users_N"] = samples.user_keys[chosen_B]
    rows["user_impressions_N"], rows["item_impressions_N"] = of["user_counts"][:, 0], of["item_counts"][:, 0]
    rows["progressive_N"], rows["label_N"], rows["sign_N"] = learned.predictions_B[chosen_B], of["label"] > 0, 1
    return rows
