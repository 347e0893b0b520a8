"""Batches are decoded while those before them are applied.

Decoding keeps this process busy; applying keeps Redis busy, and this process waiting. So that neither waits, some
batches stand ready behind those that are applied, while one more is decoded. The order of a partition stays that of the
stream. Faust then acknowledges a batch before it is applied, which is of no weight: a worker starts behind the fence,
never at the commit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stream.ingest.consumer.record_batch import RecordBatch
from stream.ingest.ending import fail_stop

T = TypeVar("T")

_AT_ONCE = 8
"""Batches that are applied, or stand ready for that: enough that there are some of each thread's partitions."""


class Lookahead(Generic[T]):
    """Decodes batches ahead of applying them.

    Args:
        decode: what comes first.
        apply: what comes then; of several of one partition that it is asked for at once, the first one comes first.
    """

    def __init__(self, decode: Callable[[RecordBatch], Awaitable[T]], apply: Callable[[T], Awaitable[None]]) -> None:
        self._decode = decode
        self._apply = apply
        self._applying: set[asyncio.Future[None]] = set()

    async def take(self, batch: RecordBatch) -> None:
        """Decode a batch; returns once there is room for it among those that are applied, and it is on its way."""
        decoded = await self._decode(batch)
        while len(self._applying) >= _AT_ONCE:
            _, self._applying = await asyncio.wait(self._applying, return_when=asyncio.FIRST_COMPLETED)
        self._applying.add(asyncio.ensure_future(fail_stop(self._apply(decoded))))

    async def settle(self) -> None:
        """Wait until all that was taken is applied."""
        if self._applying:
            await asyncio.wait(self._applying)
        self._applying.clear()
