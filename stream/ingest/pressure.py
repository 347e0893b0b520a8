"""Back-pressure: batches of a partition wait while the learner is too far behind; Kafka holds what comes meanwhile."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

_HIGH_WATER_PAUSE_S, _PENDING_PAUSE_S = 0.02, 0.002


class Pressure:
    """Lets batches of each partition pass in their order.

    Args:
        high_water: samples of a partition that may wait for the learner.
        look: asks how many of a partition do.
        may_wait: called while the learner is waited for; False ends that.
    """

    def __init__(self, high_water: int, look: Callable[[int], Awaitable[int]], may_wait: Callable[[], bool]) -> None:
        self._high_water, self._look, self._may_wait = high_water, look, may_wait
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._backlogs: Counter[int] = Counter()
        self._pending: Counter[int] = Counter()
        self.num_paused = 0
        """How often the learner was waited for."""

    @asynccontextmanager
    async def turn(self, partition: int, num_records: int) -> AsyncIterator[None]:
        """Wait for those before and for the learner; within it a batch is sent on its way, which `ended` ends."""
        async with self._turns[partition]:
            await self._wait(partition)
            self._pending[partition] += num_records
            yield

    def ended(self, partition: int, num_records: int, backlog: int | None) -> None:
        """A batch is applied; so many samples wait now, if that is known."""
        self._pending[partition] -= num_records
        if backlog is not None:
            self._backlogs[partition] = backlog

    async def _wait(self, partition: int) -> None:
        while self._backlogs[partition] + self._pending[partition] > self._high_water:
            if self._pending[partition]:
                # How many samples these make is known once they are applied.
                await asyncio.sleep(_PENDING_PAUSE_S)
            elif self._may_wait():
                self.num_paused += 1
                await asyncio.sleep(_HIGH_WATER_PAUSE_S)
                self._backlogs[partition] = await self._look(partition)
            else:
                return
