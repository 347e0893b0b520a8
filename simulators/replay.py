"""A log as an event stream, in constant memory: an impression for each row that is shown, feedback by the log's rules.

Feedback comes at its own time, or after a drawn delay, some of which exceed the join window; some events are written
twice, some later than their time says. Everything follows from the seed. What is held at a time is one stretch of rows,
and those earlier ones that have events yet to be written.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta

from learner.config import Seed
from simulators.drift import Drift, DriftError, inverted_users
from simulators.encoding import Encoder, LogEntry
from simulators.faults import Faults, FaultSettings, Seconds, Share
from simulators.logs.log import Log
from simulators.schedule import IMPRESSION, Delays, Events, Stream, generator, given_by, joined, schedule
from state_store.config import MAX_MS, JoinSettings
from state_store.errors import OperatorError
from stream.events import Heartbeat, encode_event

_TAIL = 1000
_MAX_ROWS = 1_000_000_000_000
Time = Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)]


class ReplaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a log becomes a stream."""

    num_rows: Annotated[int, Meta(ge=0, le=_MAX_ROWS)] = 0
    """Rows replayed, oldest first; 0: all."""
    from_ms: Time | None = None
    """Event time of the first row, inclusive; None: the log's beginning."""
    to_ms: Time | None = None
    """Event time at which the rows end, exclusive; None: the log's end."""
    rounds: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    """How often they are replayed, each time later by their span and `gap_s`, with impression ids of its own (`#2`
    behind those of the second round); 0: until it is stopped."""
    gap_s: Seconds = 3600.0
    """Event time between the last row of a round and the first of the next one, seconds."""
    delay_median_s: Annotated[float, Meta(gt=0, le=MAX_MS // 1000)] | None = None
    """Median of the delays that are drawn, seconds of event time; None: as the log states it."""
    delay_sigma: Annotated[float, Meta(ge=0, le=20)] | None = None
    """Standard deviation of the delay's logarithm; None: as the log states it."""
    seed: Seed = 7
    drift_at: Annotated[int, Meta(ge=0, le=_MAX_ROWS)] = 0
    """Number of the event from which on the labels of some users are inverted; 0: never."""
    drift_share: Share = 0.0
    """Share of users, drawn by the seed, whose labels are."""
    faults: FaultSettings = FaultSettings()

    def __post_init__(self) -> None:
        if bool(self.drift_at) != bool(self.drift_share):
            raise ValueError(
                f"a drift needs an event and a share of users, both above 0, got {self.drift_at} and {self.drift_share}"
            )


class EmptyReplayError(OperatorError):
    """No rows are left to replay."""


class Replay:
    """A log's events, as often as they are asked for, the same each time.

    Args:
        log: what is replayed.
        settings: how.
        num_partitions: of the topics.
        join: of whoever reads them: what is late, and when every window is closed.
        horizon_ms: the same of their tasks, where one reaches farther: how long after its impression feedback counts.

    Raises:
        DriftError: the drift begins behind the last event, or the log has no labels to invert.
        EmptyReplayError: at the first row that is asked for, if there is none.
    """

    def __init__(
        self, log: Log, settings: ReplaySettings, num_partitions: int, join: JoinSettings, horizon_ms: int = 0
    ) -> None:
        self.log, self.settings = log, settings
        self._num_partitions = num_partitions
        self._closing_ms = 2 * (max(horizon_ms, join.attribution_ms) + join.lateness_ms)
        self._faults = Faults(settings.faults, settings.seed, join.lateness_ms)
        self._forget()
        self._drift: Drift | None = None
        if settings.drift_at:
            self._drift = self._find_drift()

    def _forget(self) -> None:
        """Begin a new pass."""
        self.num_rows = 0
        """Rows of this pass that are written: at the end exactly, meanwhile in proportion."""
        self.num_events = 0
        """Events of this pass so far, without heartbeats."""
        self.end_ms = 0
        """Greatest event time so far, ms."""
        self.now_ms = 0.0
        """The log's own clock: when the last of them was written, ms."""
        self.tail = pl.DataFrame()
        """The last rows that were read."""

    # What is written --------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[LogEntry]:
        """The records, in the order in which they are written."""
        self._forget()
        actions = [rule.action for rule in self.log.feedback]
        encoder = Encoder(self.log.users, self.log.items, actions, self._num_partitions)
        for rows, events in self._batches():
            self.end_ms = max(self.end_ms, int(events.ts_N.max(initial=0)))
            for row, some in encoder.encode(rows, events, self._faults.held_until(events.written_N).tolist()):
                begun, more = self.num_rows, max(0, row + 1 - self.num_rows)
                for n, entry in enumerate(some, start=1):
                    yield entry
                    self.now_ms, self.num_events = entry.written_ms, self.num_events + 1
                    self.num_rows = begun + more * n // len(some)

    def closing_heartbeats(self) -> Iterator[LogEntry]:
        """One per topic and partition, far enough ahead of what was written to close every window of the join."""
        beat = encode_event(Heartbeat(ts=self.end_ms + self._closing_ms))
        for partition in range(self._num_partitions):
            yield LogEntry(0, partition, None, beat, self.now_ms)
            yield LogEntry(1, partition, None, beat, self.now_ms)

    def whole_log(self) -> Iterator[LogEntry]:
        """The records, and the heartbeats behind them that close every window of the join."""
        yield from self.entries()
        yield from self.closing_heartbeats()

    def count_events(self) -> int:
        """Events of a pass, without heartbeats; draws them all, but encodes none."""
        return sum(len(events) for _, events in self._batches())

    def share_done(self) -> float | None:
        """How much is written: by rows, or by event time where only that is known; None for a replay without end."""
        settings = self.settings
        if not settings.rounds:
            return None
        total, first, last = self.log.span()
        if settings.from_ms is None and settings.to_ms is None:
            total = min(settings.num_rows or total, total) * settings.rounds
            return self.num_rows / total if total else None
        first = first if settings.from_ms is None else settings.from_ms
        last = last if settings.to_ms is None else settings.to_ms
        span_ms = settings.rounds * max(1, last - first) + (settings.rounds - 1) * settings.gap_s * 1000
        return min(1.0, max(0.0, (self.now_ms - first) / span_ms))

    # Rows and their events --------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[tuple[pl.DataFrame, Events]]:
        """Events in the order in which they are written, with the rows that they are of."""
        pending, carried = Events.none(), None
        for number, stretch in enumerate(self._stretches()):
            rows, events = stretch, self._events(stretch, number)
            if carried is not None:
                events = msgspec.structs.replace(events, row_N=events.row_N + len(carried))
                rows = pl.concat([carried, stretch])
            events = joined([pending, events]).in_written_order()
            # Nothing of a later stretch is written before this one's last row: rows never go back in time.
            ready = int(np.searchsorted(events.written_N, rows["ts"][-1]))
            yield rows, events.take(slice(ready))
            rest = events.take(slice(ready, None))
            needed, place = np.unique(rest.row_N, return_inverse=True)
            pending, carried = msgspec.structs.replace(rest, row_N=place), rows[needed]
        if carried is not None:
            yield carried, pending

    def _events(self, rows: pl.DataFrame, number: int) -> Events:
        settings, feedback = self.settings, self.log.feedback
        if self._drift is not None:
            rows = self._drift.apply(rows, feedback, generator(settings.seed, Stream.DRIFT, number))
        rng = generator(settings.seed, Stream.MAIN, number)
        delays = Delays(settings.delay_median_s, settings.delay_sigma)
        given = [given_by(rows, k) for k in range(len(feedback))]
        return self._faults.apply(schedule(rows, feedback, given, delays, rng), rows, rng, number)

    def _stretches(self) -> Iterator[pl.DataFrame]:
        """Rows of every round, numbered on."""
        settings, count, shift, number = self.settings, 0, 0, 0
        while not settings.rounds or number < settings.rounds:
            first = last = None
            for stretch in self._read():
                if stretch.is_empty():
                    continue
                first, last = stretch["ts"][0] if first is None else first, stretch["ts"][-1]
                rows = stretch.with_row_index("row", offset=count)
                count += len(rows)
                self.tail = rows.tail(_TAIL)
                yield _shifted(rows, shift, number) if settings.rounds != 1 else rows
            if first is None:
                raise EmptyReplayError(self._said_of_nothing())
            number += 1
            shift += last - first + round(settings.gap_s * 1000)

    def _said_of_nothing(self) -> str:
        total, first, last = self.log.span()
        said = f"log {self.log.name!r} has no rows in the span of --from and --to"
        return said + (f"; it has {total:,}, from {first} to {last} ms" if total else "; it has none at all")

    def _read(self) -> Iterator[pl.DataFrame]:
        settings = self.settings
        return self.log.stretches(num_rows=settings.num_rows, from_ms=settings.from_ms, to_ms=settings.to_ms)

    def _find_drift(self) -> Drift:
        settings, users = self.settings, []
        at, row = settings.drift_at, None
        for rows, events in self._batches():
            chosen = events.kind_N == IMPRESSION
            chosen[: max(0, at)] = False
            at -= len(events)
            if chosen.any():
                row = int(rows["row"][int(events.row_N[chosen.argmax()])])
                break
        if row is None:
            raise DriftError(
                f"--drift: it begins at event {settings.drift_at}, of {settings.drift_at - at}; begin it earlier"
            )
        for rows in self._read():
            users.append(rows["user_id"].unique())
        return Drift(inverted_users(pl.concat(users), settings.seed, settings.drift_share), row)


def _shifted(rows: pl.DataFrame, by_ms: int, number: int) -> pl.DataFrame:
    """Rows of a later round; features stay as of when they were logged."""
    times = [name for name in rows.columns if name == "ts" or name.startswith("ts.")]
    suffix = f"#{number + 1}" if number else ""
    return rows.with_columns(
        pl.col("ts").alias("as_of"), pl.col("imp_id") + suffix, *(pl.col(n) + by_ms for n in times)
    )
