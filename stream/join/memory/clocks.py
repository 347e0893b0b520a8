"""Event time of a topic between calls, and the watermark (`state_store/lua/apply/70_batch.lua`)."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from state_store.records import Reading


class Claims(msgspec.Struct):
    """Users who came newest, the newest time of each, and which of them comes next to be forgotten, from 1."""

    users: list[str] = []
    ts: list[str] = []
    """As text, so that no digit is lost."""
    oldest: int = 1


class Clock:
    """What is known of the event time of one topic."""

    def __init__(self) -> None:
        self.top: float | None = None
        self.moved: float | None = None
        """Wall clock when it last moved."""
        self.seen: float | None = None
        """Wall clock of the last call with records."""
        self.users: list[str] = []
        self.times: list[float] = []
        self.oldest = 1

    def read(self, top: bytes | None, claims: bytes | None, moved: bytes | None, seen: bytes | None) -> None:
        """Take over what a fence says."""
        self.top, self.moved, self.seen = number(top), number(moved), number(seen)
        said = msgspec.json.decode(claims, type=Claims) if claims else Claims()
        self.users, self.times, self.oldest = said.users, [float(ts) for ts in said.ts], said.oldest

    def claims(self) -> bytes:
        """As a fence says it."""
        return msgspec.json.encode(Claims(self.users, [f"{ts:.0f}" for ts in self.times], self.oldest))

    def newest(self) -> float | None:
        """The newest time that anybody of those who came last has claimed."""
        known = [*self.times, *([] if self.top is None else [self.top])]
        return max(known, default=None)


def number(text: bytes | None) -> float | None:
    """A number of a fence; None where there is none."""
    return None if text is None else float(text)


def digits(value: float) -> bytes:
    """A number as Redis is given it.

    >>> digits(978300760000.0), digits(0.1)
    (b'978300760000', b'0.10000000000000001')
    """
    return b"%.17g" % value


def watermark_of(
    clocks: Mapping[str, Clock], before: float | None, reading: Reading, lateness: float, topics: Sequence[str]
) -> float | None:
    """The least of the topics' event times, less the allowed lateness; it never goes back.

    Where everything that was written has been read and nothing moves event time for a while, it goes on with the wall
    clock, behind the newest record and never past the clock itself. A topic that is quiet does not hold the other back.

    Args:
        clocks: of each topic.
        before: the watermark so far.
        reading: the wall clock, and which topics are quiet or read to their end.
        lateness: ms.
        topics: both.
    """
    now, idle_after = reading.now_ms, reading.idle_after_ms

    def by_the_clock(start: float, since: float) -> float:
        return min(start + max(0, now - since - idle_after), now - idle_after)

    low, latest, is_known, all_quiet = math.inf, -math.inf, True, True
    for topic in topics:
        clock = clocks[topic]
        if topic in reading.quiet:
            newest = clock.newest()
            if newest is not None and clock.seen is not None:
                latest = max(latest, by_the_clock(newest, clock.seen))
            continue
        all_quiet = False
        top = clock.top
        if top is not None and clock.moved is not None and topic in reading.read:
            top = max(top, by_the_clock(top, clock.moved))
        if top is None:
            is_known = False
        else:
            low = min(low, top)
    if all_quiet:
        low = latest
    if is_known and math.isfinite(low) and (before is None or low - lateness > before):
        return low - lateness
    return before
