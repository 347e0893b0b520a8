"""What is due when: arrivals, single impressions and waiting feedback (`state_store/lua/apply/47_arrivals.lua`)."""

import math
from collections.abc import Sequence
from struct import Struct

import numpy as np

from stream.join.commands import command
from stream.join.kernels.writes import ARRIVALS, DUE, HDEL, HSET, ZADD, ZREM
from stream.join.memory.clocks import digits
from stream.join.memory.partition import Arrival

MOST_MEMBERS = 32
"""Looked at together."""
MOST_READ = 4 * MOST_MEMBERS + 1
FEW = 4
"""Impressions of a call that are due each by itself."""
_COUNT, _PASSED = Struct("<I"), Struct("<dI")
_INDEX = np.dtype([("ts", "<f8"), ("end", "<u4")])


class Dues:
    """The members of the sorted set that are due next, with what a call changes of them.

    Args:
        read: the first of them in Redis, in order.
        most: how many were asked for.
    """

    def __init__(self, read: Sequence[tuple[bytes, float]], most: int) -> None:
        self._at = dict(read)
        self._known_to = (read[-1][1], read[-1][0]) if len(read) == most else (math.inf, b"")
        self._changed: dict[bytes, float | None] = {}
        self.watermark: float | None = None
        self.is_due_again = False
        """Whether something is due already that was given its time just now, or of which there was more."""
        self.is_cut = False
        """Whether something may be due that was not read."""

    def set(self, member: bytes, at: float | None) -> None:
        """A member is due then; None: no more."""
        if at is not None and self.watermark is not None and at < self.watermark:
            self.is_due_again = True
        self._changed[member] = at
        if at is None:
            self._at.pop(member, None)
        else:
            self._at[member] = at

    def first(self, watermark: float) -> list[tuple[float, bytes]]:
        """Members that are due before the watermark, in order, and one more than are looked at together."""
        if math.isfinite(self._known_to[0]) and watermark > self._known_to[0]:
            self.is_cut = True
        ready = [(at, member) for member, at in self._at.items() if at < watermark and (at, member) <= self._known_to]
        return sorted(ready)[: MOST_MEMBERS + 1]

    def commands(self) -> bytes:
        """What is to be written."""
        gone = [member for member, at in self._changed.items() if at is None]
        written = [part for member, at in self._changed.items() if at is not None for part in (digits(at), member)]
        return command(ZREM, DUE, gone) + command(ZADD, DUE, written, 2)


def write_arrivals(moved: Sequence[Arrival]) -> bytes:
    """Commands that write arrivals that are new, or of which more has passed; what has passed wholly goes."""
    gone, written = [], []
    for arrival in moved:
        name = b"%d" % arrival.number
        if arrival.passed[-1][1] == len(arrival):
            if not arrival.is_new:
                gone += [name, name + b"p"]
            continue
        if arrival.is_new:
            written += [name, _arrival_data(arrival)]
        written += [name + b"p", b"".join(_PASSED.pack(ms, int(n)) for ms, n in arrival.passed)]
    return command(HDEL, ARRIVALS, gone) + command(HSET, ARRIVALS, written, 2)


def _arrival_data(arrival: Arrival) -> bytes:
    index = np.zeros(len(arrival), _INDEX)
    index["ts"], index["end"] = arrival.ts, arrival.ids.spans_K2[:, 1]
    return _COUNT.pack(len(arrival)) + index.tobytes() + arrival.ids.text.tobytes()
