"""What goes wrong between a user and the log: by default what always does, and by choice what sometimes does.

Each fault draws from a generator of its own, so turning one on leaves the others as they are.
"""

from hashlib import blake2b
from typing import Annotated

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta

from simulators.schedule import IMPRESSION, Events, Stream, generator, joined
from state_store.config import MAX_MS

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_MS // 1000)]


class FaultSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Faults of a replay."""

    duplicates: Share = 0.01
    """Share of events written a second time."""
    out_of_order: Share = 0.02
    """Share of events written after some of those that happened later."""
    jitter_s: Seconds = 30.0
    """Greatest delay of an event written out of order, or again, seconds of event time; what exceeds join.lateness_ms
    becomes a dead letter."""
    late: Share = 0.0
    """Share of events written once or twice join.lateness_ms after they happened."""
    lost_feedback: Share = 0.0
    """Share of feedback that is never written."""
    skewed_clocks: Share = 0.0
    """Share of users whose clocks go wrong: every event of theirs claims to be up to `skew_s` earlier or later."""
    skew_s: Seconds = 300.0
    """Greatest error of such a clock, seconds."""
    malformed: Share = 0.0
    """Share of records whose bytes are damaged: cut off, a string where an object belongs, a key missing, not UTF-8."""
    bursts: Share = 0.0
    """Share of stretches of time in which all events are held back and written at once at the end. At a `--speed`,
    that is a lull and a burst; the order of events stays as it is."""
    burst_s: Annotated[float, Meta(gt=0, le=MAX_MS // 1000)] = 60.0
    """Length of such a stretch, seconds of event time."""


class Faults:
    """Faults of one replay.

    Args:
        settings: which, and how much of each.
        seed: of the replay.
        lateness_ms: `join.lateness_ms` of whoever reads it.
    """

    def __init__(self, settings: FaultSettings, seed: int, lateness_ms: int) -> None:
        self._settings = settings
        self._seed = seed
        self._lateness_ms = lateness_ms

    def apply(self, events: Events, rows: pl.DataFrame, rng: np.random.Generator, stretch: int) -> Events:
        """Events of a stretch with everything that goes wrong.

        Args:
            events: as they happened.
            rows: the stretch.
            rng: for disorder and duplicates, which every replay draws.
            stretch: its number, from 0.
        """
        faults, count = self._settings, len(events)
        jitter_ms = faults.jitter_s * 1000
        written = events.written_N + np.where(
            rng.random(count) < faults.out_of_order, rng.uniform(0, jitter_ms, count), 0.0
        )
        again = np.flatnonzero(rng.random(count) < faults.duplicates)
        second = events.written_N[again] + rng.uniform(0, jitter_ms, len(again))
        if faults.late:
            rng = generator(self._seed, Stream.LATE, stretch)
            late, by = rng.random(count) < faults.late, rng.uniform(1, 2, count) * self._lateness_ms
            written = np.where(late, events.written_N + by, written)
        events = self._damaged(_at(events, written), _at(events.take(again), second), stretch)
        origin = np.concatenate([np.arange(count), again])
        events = self._skewed(events, rows)
        return events.take(~self._lost(events, origin, count, stretch)) if faults.lost_feedback else events

    def _damaged(self, first: Events, second: Events, stretch: int) -> Events:
        if self._settings.malformed:
            rng = generator(self._seed, Stream.MALFORMED, stretch)
            # The first time first: how many are written again does not change what happens to them.
            first, second = (self._with_damage(part, rng) for part in (first, second))
        return joined([first, second])

    def _with_damage(self, events: Events, rng: np.random.Generator) -> Events:
        chosen = rng.random(len(events)) < self._settings.malformed
        return msgspec.structs.replace(
            events, damage_N=np.where(chosen, rng.integers(1, 1 << 40, len(events)), np.int64(0))
        )

    def _lost(self, events: Events, origin: np.ndarray, count: int, stretch: int) -> np.ndarray:
        lost: np.ndarray = generator(self._seed, Stream.LOST, stretch).random(count) < self._settings.lost_feedback
        gone: np.ndarray = (events.kind_N != IMPRESSION) & lost[origin]
        return gone

    def _skewed(self, events: Events, rows: pl.DataFrame) -> Events:
        if not (self._settings.skewed_clocks and self._settings.skew_s):
            return events
        users = rows.select("user_id").unique()
        skews = users.with_columns(
            skew=pl.Series([self.clock_skew_ms(user) for user in users["user_id"]], dtype=pl.Int64)
        )
        skew_R = rows.select("user_id").join(skews, on="user_id", how="left", maintain_order="left")["skew"].to_numpy()
        return msgspec.structs.replace(events, ts_N=np.maximum(0, events.ts_N + skew_R[events.row_N]))

    def clock_skew_ms(self, user_id: str) -> int:
        """By how much a user's clock is wrong; it follows from the id and the seed alone, so it stays so.

        >>> Faults(FaultSettings(), 7, 60_000).clock_skew_ms("u1")
        0
        """
        digest = blake2b(user_id.encode(), digest_size=16, key=str(self._seed).encode()).digest()
        chosen, by = (int.from_bytes(half) / 2**64 for half in (digest[:8], digest[8:]))
        return round((2 * by - 1) * self._settings.skew_s * 1000) if chosen < self._settings.skewed_clocks else 0

    def held_until(self, written_N: np.ndarray) -> np.ndarray:
        """When events are really written that would be at the given times, ms; the order stays."""
        if not self._settings.bursts:
            return written_N
        length_ms = self._settings.burst_s * 1000
        numbers, place = np.unique((written_N // length_ms).astype(np.int64), return_inverse=True)
        held = [generator(self._seed, Stream.BURST, int(n)).random() < self._settings.bursts for n in numbers]
        return np.where(np.array(held, bool)[place], (numbers[place] + 1) * length_ms, written_N)


def _at(events: Events, written_N: np.ndarray) -> Events:
    return msgspec.structs.replace(events, written_N=written_N)
