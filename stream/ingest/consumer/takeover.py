"""When a worker takes its partitions over: while its group says that they are its own, and at no other time.

Whoever takes a partition over ends the epoch of whoever had it before (`state_store`'s fence). One that comes too late
ends its successor's. Faust asks for the place to start not only behind an assignment, but also when a fetch comes back
in the middle of a rebalance, and gives up waiting for the answer when the next rebalance begins, while the thread that
looks for it goes on. So: one at a time; none once the partitions are to be given back; and a member says that it is
ready for the next generation of its group only when whatever it was taking over has ended.
"""

import asyncio
from collections.abc import Callable, Mapping

from faust.types import TP

IsOver = Callable[[], bool]
"""Whether the partitions have been taken away meanwhile."""
StartOffsets = Callable[[Mapping[TP, int], IsOver], Mapping[TP, int]]
"""Assigned partitions and the earliest offset that the broker still has of each, and whether they are its no more ->
first offset to read of each. Blocking calls are fine; once `IsOver` says so, nothing more is taken."""


class Takeover:
    """One consumer's.

    Args:
        start_offsets: takes partitions over.
        is_stopping: whether the process is to end, so that others are to have them.
    """

    def __init__(self, start_offsets: StartOffsets, is_stopping: Callable[[], bool]) -> None:
        self._start_offsets = start_offsets
        self._is_stopping = is_stopping
        self._turn: object | None = None
        """Of the assignment that holds; None: between two."""
        self._taking: asyncio.Future[Mapping[TP, int]] | None = None

    def begin(self) -> None:
        """Partitions have been assigned."""
        self._turn = object()

    async def end(self) -> None:
        """They are to be given back; returns once nothing is being taken over any more."""
        self._turn = None
        await self._settle()

    async def _settle(self) -> None:
        """Wait for whatever is being taken over."""
        while self._taking is not None and not self._taking.done():
            await asyncio.wait([self._taking])

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to take over."""
        return self._turn is None or self._is_stopping()

    async def take(self, earliest: Mapping[TP, int]) -> Mapping[TP, int]:
        """First offset to read of each partition; empty if they are this worker's no more."""
        turn = self._turn
        await self._settle()

        def is_over() -> bool:
            return self.is_over or self._turn is not turn

        if is_over():
            return {}
        # Shielded: the thread cannot be called off, and whoever gives the partitions back waits for it.
        self._taking = asyncio.ensure_future(asyncio.to_thread(self._start_offsets, earliest, is_over))
        offsets = await asyncio.shield(self._taking)
        return {} if is_over() else offsets
