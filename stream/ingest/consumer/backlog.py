"""What was read and not handed on yet: of all partitions, what was written longest ago comes first.

A fetch brings what the broker likes, at times forty thousand records of one partition. Handed on as they come, feedback
would be far ahead of its impressions, which it would have to wait for in the state, and one thread would work while the
others wait.
"""

import heapq
from bisect import bisect_right
from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple

from faust.types import TP

from stream.ingest.consumer.record_batch import Fetched, written

_CHUNK = 256
"""Records of a partition that are taken together."""


class _Held(NamedTuple):
    """What was read of a partition, how many of its records have been handed on, and when it was read, ms."""

    found: Fetched
    at: int
    read_ms: int


class Backlog:
    """Holds what was read.

    Args:
        most: records that are handed on at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[TP, _Held] = {}

    def __contains__(self, tp: TP) -> bool:
        return tp in self._held

    @property
    def partitions(self) -> list[TP]:
        """Of which something is held."""
        return list(self._held)

    def add(self, fetched: Mapping[TP, Fetched], now_ms: int) -> None:
        """Hold what was read of partitions of which nothing is held.

        Args:
            fetched: what was read.
            now_ms: when: what claims to be written later is not held back for that.
        """
        for tp, found in fetched.items():
            self._held[tp] = _Held(found, 0, now_ms)

    def drop(self, tp: TP) -> None:
        """Nothing that was read of a partition counts."""
        self._held.pop(tp, None)

    def take(self, active: Collection[TP], have_more: Collection[TP] = ()) -> dict[TP, Fetched]:
        """What was written longest ago: of all partitions up to the same moment.

        Args:
            active: of these.
            have_more: those of which there is more than is held: others wait for what comes next of them.
        """
        heads = [(self._written(tp, held.at), i, tp) for i, (tp, held) in enumerate(self._held.items()) if tp in active]
        heapq.heapify(heads)
        chunk = min(_CHUNK, self._most // max(1, len(heads)) or 1)
        ends: dict[TP, int] = {}
        left, moments = self._most, list[int]()
        while heads and left > 0:
            _, i, tp = heapq.heappop(heads)
            found, at, _ = self._held[tp]
            begin = ends.get(tp, at)
            end = ends[tp] = min(begin + min(chunk, left), len(found))
            left -= end - begin
            if end < len(found):
                heapq.heappush(heads, (self._written(tp, end), i, tp))
            elif found and tp in have_more:
                moments.append(self._written(tp, end - 1))
        moments += [moment for moment, *_ in heads[:1]]
        if moments:
            ends = self._up_to(min(moments), ends)
        return {tp: self._part(tp, end) for tp, end in ends.items()}

    def _up_to(self, moment: int, ends: dict[TP, int]) -> dict[TP, int]:
        """The same without what was written later; all of it if nothing would be left, as clocks may go backwards."""
        cut = {}
        for tp, end in ends.items():
            found, at, _ = self._held[tp]
            earlier = bisect_right(range(at, end), moment, key=partial(self._written, tp))
            if earlier or not found:
                cut[tp] = at + earlier
        return cut or ends

    def _written(self, tp: TP, n: int) -> int:
        held = self._held[tp]
        return min(written(held.found, n), held.read_ms)

    def _part(self, tp: TP, end: int) -> Fetched:
        """The records of a partition up to one, and the offsets up to that."""
        found, at, read_ms = self._held.pop(tp)
        if end < len(found):
            self._held[tp] = _Held(found, end, read_ms)
        first = found[at].offset if at else found.first
        behind = found[end].offset if end < len(found) else found.next_offset
        return Fetched(found[at:end] if at or end < len(found) else found, first, behind, 0 if at else found.num_lost)
