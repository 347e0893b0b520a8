"""A drift to find: from some event on, the labels of a share of users are inverted."""

from typing import Any

import msgspec
import numpy as np
import polars as pl

from simulators.logs.log import FeedbackRule
from simulators.schedule import given_by
from state_store.errors import OperatorError

_DRIFT = 1
"""Stream of random numbers that the drift has for itself."""


class DriftError(OperatorError):
    """A log has no such drift to offer."""


def inverted_users(users: pl.Series, seed: int, share: float) -> pl.Series:
    """The users whose labels are inverted, of all that there are."""
    everyone = users.unique().sort()
    return everyone.filter(pl.Series(np.random.default_rng([seed, _DRIFT]).random(len(everyone)) < share))


class Drift(msgspec.Struct, frozen=True):
    """Inverts the feedback of a log's first rule, its main action."""

    users: Any
    """Whose, a column of ids."""
    from_row: int
    """Number of the first row that it concerns."""

    def apply(self, rows: pl.DataFrame, feedback: tuple[FeedbackRule, ...], rng: np.random.Generator) -> pl.DataFrame:
        """Rows that have the feedback lose it, others get one.

        Where a log says when feedback came, a new one comes as long after its impression as some other did.

        Args:
            rows: a stretch, with the column `row`.
            feedback: the log's rules.
            rng: for the times of new feedback.

        Raises:
            DriftError: feedback has rows of its own, so an impression's row does not say what comes of it.
        """
        given = given_by(rows, 0)
        if not rows["shown"].to_numpy()[given].all():
            raise DriftError(
                f"--drift: {feedback[0].action!r} has rows of its own in this log, apart from the impressions; a drift "
                "needs a log whose rows say both"
            )
        concerned = rows["user_id"].is_in(self.users).to_numpy() & (rows["row"].to_numpy() >= self.from_row)
        concerned &= rows["shown"].to_numpy()
        rows = rows.with_columns(pl.Series("feedback.0", given ^ concerned))
        if feedback[0].delay is None and "ts.0" in rows.columns:
            rows = rows.with_columns(pl.Series("ts.0", _times(rows, given, concerned & ~given, rng)))
        return rows


def _times(rows: pl.DataFrame, given: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shown = rows["ts"].to_numpy()
    came = rows["ts.0"].fill_null(rows["ts"]).to_numpy().copy()
    delays = (came - shown)[given]
    came[new] = shown[new] + (rng.choice(delays, int(new.sum())) if len(delays) else 0)
    return came
