"""Rows of a log as events: what each row leads to, when it happens, when it is written.

An `Events` is columns over one frame of rows; letters of shapes: N events, R rows.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
import polars as pl

from simulators.logs.log import Delay, FeedbackRule

IMPRESSION = 0
"""`kind_N` of an impression; feedback by the k-th rule is k + 1."""


class Stream(IntEnum):
    """What random numbers are for; each purpose has a generator of its own."""

    MAIN = 0
    """Delays, disorder and duplicates, which every replay draws."""
    LATE = 1
    LOST = 2
    MALFORMED = 3
    BURST = 4
    DRIFT = 5


def generator(seed: int, stream: Stream, stretch: int) -> np.random.Generator:
    """Random numbers for one purpose in one stretch of a log; no purpose changes what another one draws.

    Args:
        seed: of the replay.
        stream: what they are for.
        stretch: number of the stretch, from 0.
    """
    if stream == Stream.MAIN and stretch == 0:
        return np.random.default_rng(seed)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, stretch)))


class Events(msgspec.Struct, frozen=True):
    """Events of a frame of rows."""

    kind_N: np.ndarray
    """`IMPRESSION`, or 1 + the number of the feedback's rule."""
    row_N: np.ndarray
    """Which row of the frame it is of."""
    ts_N: np.ndarray
    """Event time, ms."""
    written_N: np.ndarray
    """When it is written, by the log's own clock, ms; a float."""
    damage_N: np.ndarray
    """0: none; else a number that decides what is wrong with the record's bytes (`simulators/encoding.py`)."""

    def __len__(self) -> int:
        return len(self.kind_N)

    def take(self, chosen: Any) -> "Events":
        """Those at the given places: indices, a mask or a slice."""
        return Events(*(column[chosen] for column in self.columns()))

    def columns(self) -> tuple[np.ndarray, ...]:
        """The columns, in the order of the fields."""
        return self.kind_N, self.row_N, self.ts_N, self.written_N, self.damage_N

    def in_written_order(self) -> "Events":
        """Sorted by when they are written; those that are written at once stay as they are."""
        return self.take(np.argsort(self.written_N, kind="stable"))

    @staticmethod
    def none() -> "Events":
        """No events."""
        whole = np.empty(0, np.int64)
        return Events(np.empty(0, np.int16), whole, whole, np.empty(0), whole)


def joined(parts: Sequence[Events]) -> Events:
    """One behind the other."""
    return Events(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))


class Delays(msgspec.Struct, frozen=True):
    """What is said of the delays of feedback in place of the log."""

    median_s: float | None = None
    sigma: float | None = None

    def of(self, delay: Delay) -> Delay:
        """A rule's delay with these in place of its own."""
        median_s = delay.median_s if self.median_s is None else self.median_s
        return Delay(median_s, delay.sigma if self.sigma is None else self.sigma)


def given_by(rows: pl.DataFrame, rule: int) -> np.ndarray:
    """Whether each row is feedback by a rule."""
    return rows[f"feedback.{rule}"].fill_null(False).to_numpy()


def schedule(
    rows: pl.DataFrame,
    feedback: Sequence[FeedbackRule],
    given: Sequence[np.ndarray],
    delays: Delays,
    rng: np.random.Generator,
) -> Events:
    """An impression for each row that is shown, then the feedback, rule by rule; nothing goes wrong yet.

    Args:
        rows: of the log.
        feedback: its rules.
        given: by rule, whether each row is such feedback (R).
        delays: what is said of the delays in place of the log.
        rng: for the delays that are drawn.
    """
    ts_R = rows["ts"].to_numpy()
    kinds, times = [np.flatnonzero(rows["shown"].to_numpy())], []
    for number, (rule, given_R) in enumerate(zip(feedback, given, strict=True)):
        chosen = np.flatnonzero(given_R)
        kinds.append(chosen)
        if rule.delay is not None:
            delay = delays.of(rule.delay)
            delay_ms = np.exp(rng.normal(np.log(delay.median_s), delay.sigma, len(chosen))) * 1000
            times.append(ts_R[chosen] + delay_ms.astype(np.int64))
        else:
            came = rows[f"ts.{number}"].fill_null(rows["ts"]).to_numpy()
            times.append(came[chosen])
    places = np.concatenate(kinds)
    ts_N = np.concatenate([ts_R[kinds[0]], *times])
    kind_N = np.repeat(np.arange(len(kinds), dtype=np.int16), [len(chosen) for chosen in kinds])
    # Feedback that claims to be older than its impression was not written before it.
    written_N = np.maximum(ts_N, ts_R[places])
    return Events(kind_N, places, ts_N, written_N, np.zeros(len(ts_N), np.int64))
