"""What was read and not handed on yet: of all partitions, what was written longest ago comes first.

A fetch brings what the broker likes, at times forty thousand records of one partition. Handed on as they come, feedback
would be far ahead of its impressions, and one thread would work while the others wait.
"""

import heapq
from collections.abc import Collection, Mapping

from faust.types import TP

from stream.ingest.consumer.record_batch import Fetched, written

_CHUNK = 256
"""Records of a partition that are taken together."""


class Backlog:
    """Holds what was read.

    Args:
        most: records that are handed on at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[TP, tuple[Fetched, int]] = {}
        """What was read of a partition, and how many of its records have been handed on."""

    def __contains__(self, tp: TP) -> bool:
        return tp in self._held

    @property
    def partitions(self) -> list[TP]:
        """Of which something is held."""
        return list(self._held)

    def add(self, fetched: Mapping[TP, Fetched]) -> None:
        """Hold what was read of partitions of which nothing is held."""
        for tp, found in fetched.items():
            self._held[tp] = found, 0

    def drop(self, tp: TP) -> None:
        """Nothing that was read of a partition counts."""
        self._held.pop(tp, None)

    def take(self, active: Collection[TP]) -> dict[TP, Fetched]:
        """What of some partitions was written longest ago."""
        heads = [(written(found, at), i, tp) for i, (tp, (found, at)) in enumerate(self._held.items()) if tp in active]
        heapq.heapify(heads)
        ends: dict[TP, int] = {}
        left = self._most
        while heads and left > 0:
            _, i, tp = heapq.heappop(heads)
            found, at = self._held[tp]
            begin = ends.get(tp, at)
            end = ends[tp] = min(begin + min(_CHUNK, left), len(found))
            left -= end - begin
            if end < len(found):
                heapq.heappush(heads, (written(found, end), i, tp))
        return {tp: self._part(tp, end) for tp, end in ends.items()}

    def _part(self, tp: TP, end: int) -> Fetched:
        """The records of a partition up to one, and the offsets up to that."""
        found, at = self._held.pop(tp)
        if end < len(found):
            self._held[tp] = found, end
        first = found[at].offset if at else found.first
        behind = found[end].offset if end < len(found) else found.next_offset
        return Fetched(found[at:end] if at or end < len(found) else found, first, behind, 0 if at else found.num_lost)
