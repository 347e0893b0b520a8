"""Outcomes of what a scorer served: what it said, what the learner says of the same impression, and the label."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import polars as pl

SERVED_SCHEMA: dict[str, type[pl.DataType]] = {
    "served_probability": pl.Float64,
    "served_version": pl.Int64,
    "served_arm": pl.UInt64,
    "served_canary": pl.Boolean,
    "served_other": pl.Float64,
}
"""Columns of the prediction log; null where no scorer said it."""


class ServedColumns(msgspec.Struct, frozen=True):
    """What B samples say of how their impressions were decided; columns of `Layout`."""

    probability_B: np.ndarray
    """NaN where none was served."""
    version_B: np.ndarray
    arm_B: np.ndarray
    canary_B: np.ndarray
    other_B: np.ndarray

    def take(self, chosen_B: np.ndarray) -> "ServedColumns":
        """Those where `chosen_B` (booleans) is true."""
        return ServedColumns(*(column[chosen_B] for column in msgspec.structs.astuple(self)))


def served_columns(rows_B: np.ndarray) -> ServedColumns:
    """Of rows of samples."""
    return ServedColumns(*(rows_B[name] for name in SERVED_SCHEMA))


def served_series(parts: Sequence[ServedColumns]) -> list[pl.Series]:
    """Columns of the prediction log, of blocks one behind the other."""
    if not parts:
        return [pl.Series(name, [], dtype=kind) for name, kind in SERVED_SCHEMA.items()]
    wholes = [np.concatenate(columns) for columns in zip(*map(msgspec.structs.astuple, parts), strict=True)]
    series = [
        pl.Series(name, whole).cast(kind) for (name, kind), whole in zip(SERVED_SCHEMA.items(), wholes, strict=True)
    ]
    frame = pl.DataFrame(series)
    is_served, is_compared = (pl.col(name).is_not_nan() for name in ("served_probability", "served_other"))
    found = frame.select(
        pl.when(is_compared if name == "served_other" else is_served).then(name) for name in SERVED_SCHEMA
    )
    return found.get_columns()


class OutcomeListener(Protocol):
    """Is told of outcomes, block by block, in the order of learning."""

    def observe(self, outcomes: "ServedOutcomes", now_ms: int) -> None:
        """Take N outcomes in.

        Args:
            outcomes: those of a block; at least one.
            now_ms: wall clock.
        """


class ServedOutcomes(msgspec.Struct, frozen=True):
    """N outcomes whose label is known, as arrays.

    An impression is one row, with `sign_N` 1. A label that comes late is two: its earlier negative once more with sign
    -1, which takes that one back, and the positive with sign 1, both with `late_N`; all else is as it was the first
    time. So a sum over rows times sign is the sum over impressions with their labels as known now. A late label whose
    negative is no longer remembered is no outcome. Impressions of which either probability is no number are none.
    """

    users_N: np.ndarray
    """Keys of the users, uint64."""
    user_impressions_N: np.ndarray
    """The user's impressions before this one, int32."""
    item_impressions_N: np.ndarray
    """The item's."""
    first_ts_N: np.ndarray
    """Event time of the user's first impression, ms, int64; 0 where this is the first."""
    probability_N: np.ndarray
    """As served, float64."""
    version_N: np.ndarray
    """Of the weights that said so, int64."""
    other_N: np.ndarray
    """What the version that it is compared with gave the same candidate, float64; NaN where there is none."""
    arm_N: np.ndarray
    """xxh3-64 of the arm's name (`learner.samples.keys.arm_key`), uint64; 0 for none."""
    canary_N: np.ndarray
    """Whether the user is in the canary share."""
    label_N: np.ndarray
    """Whether it is positive."""
    sign_N: np.ndarray
    """1 where the outcome counts, -1 where an earlier one is taken back, int8."""
    late_N: np.ndarray
    """Whether the row is of a label that came late: its impression has been counted before."""
    rate_N: np.ndarray
    """Share of the impressions like this one that may become negatives (`join.negative_rate`), float64."""
    progressive_N: np.ndarray
    """What the learner predicted right before it learned the label, float64."""
    ts_N: np.ndarray
    """Event time, ms, int64."""

    def __len__(self) -> int:
        return len(self.users_N)

    def take(self, chosen_N: np.ndarray) -> "ServedOutcomes":
        """Those that `chosen_N` (booleans, or places) names."""
        return ServedOutcomes(*(column[chosen_N] for column in msgspec.structs.astuple(self)))
