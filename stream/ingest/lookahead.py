"""Batches are decoded while those before them are applied.

Decoding keeps this process busy; applying keeps Redis busy, and this process waiting. So that Redis does not wait, too,
the next batch stands ready behind the one that is applied, while one more is decoded. The order stays that of the
stream. Faust then acknowledges a batch before it is applied, which is of no weight: a worker starts behind the fence,
never at the commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stream.ingest.consumer.record_batch import RecordBatch
from stream.ingest.ending import fail_stop

T = TypeVar("T")

_AT_ONCE = 4
"""Batches that are applied, or stand ready for that: of several partitions several are applied at once."""


class Lookahead(Generic[T]):
    """Decodes batches ahead of applying them.

    Args:
        decode: what comes first.
        apply: what comes then; of several that it is asked for at once, the first one comes first.
    """

    def __init__(self, decode: Callable[[RecordBatch], Awaitable[T]], apply: Callable[[T], Awaitable[None]]) -> None:
        self._decode = decode
        self._apply = apply
        self._applying = deque[asyncio.Future[None]]()

    async def take(self, batch: RecordBatch) -> None:
        """Decode a batch; returns once no more than the one before waits, and this one is on its way."""
        decoded = await self._decode(batch)
        while len(self._applying) >= _AT_ONCE:
            await self._applying.popleft()
        self._applying.append(asyncio.ensure_future(fail_stop(self._apply(decoded))))

    async def settle(self) -> None:
        """Wait until all that was taken is applied."""
        while self._applying:
            await self._applying.popleft()
