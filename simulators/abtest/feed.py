"""What a world shows, as the records of a pipeline's topics, each when its time has come."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl

from simulators.encoding import Encoder, LogEntry
from simulators.logs.log import FeatureTable, FeedbackRule
from simulators.schedule import IMPRESSION, Delays, Events, joined, schedule


class Feed:
    """Holds feedback back until it happens.

    Args:
        feedback: what the rows' feedback columns mean; every time is in the rows.
        slice_ms: records of one topic come together that are no farther apart, event time.
    """

    def __init__(self, feedback: Sequence[FeedbackRule], slice_ms: int) -> None:
        self._feedback, self._slice_ms = feedback, slice_ms
        nothing = FeatureTable({})
        self._encoder = Encoder(nothing, nothing, [rule.action for rule in feedback], 1)
        self._rows, self._events = pl.DataFrame(), Events.none()

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows of a log in."""
        given = [rows[f"feedback.{k}"].to_numpy() for k in range(len(self._feedback))]
        events = schedule(rows, self._feedback, given, Delays(), np.random.default_rng(0))
        if len(self._events):
            events = joined([self._events, msgspec.structs.replace(events, row_N=events.row_N + len(self._rows))])
            rows = pl.concat([self._rows, rows])
        self._rows, self._events = rows, events

    def until(self, end_ms: int) -> Iterator[list[LogEntry]]:
        """Records that are written before a time, in batches of one topic each."""
        events = self._events.in_written_order()
        ready = int(np.searchsorted(events.written_N, end_ms))
        due, rest = events.take(slice(ready)), events.take(slice(ready, None))
        rows = self._rows
        needed, place = np.unique(rest.row_N, return_inverse=True)
        self._rows, self._events = rows[needed], msgspec.structs.replace(rest, row_N=place)
        if len(due):
            yield from self._batches(rows.with_row_index("row"), due)

    def _batches(self, rows: pl.DataFrame, due: Events) -> Iterator[list[LogEntry]]:
        in_slices = due.written_N // self._slice_ms * 2 + (due.kind_N != IMPRESSION)
        order = np.argsort(in_slices, kind="stable")
        bounds = np.flatnonzero(np.diff(in_slices[order])) + 1
        sorted_ = due.take(order)
        entries = [e for _, some in self._encoder.encode(rows, sorted_, sorted_.written_N.tolist()) for e in some]
        edges = [0, *bounds.tolist(), len(entries)]
        for begin, end in pairwise(edges):
            yield entries[begin:end]
