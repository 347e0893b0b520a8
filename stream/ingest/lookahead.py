"""One batch is decoded while the one before it is applied.

Decoding keeps this process busy; applying keeps Redis busy, and this process waiting. The order stays that of the
stream, and no more than one batch is ahead. Faust then acknowledges a batch before it is applied, which is of no
weight: a worker starts behind the fence, never at the commit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from stream.ingest.consumer.record_batch import RecordBatch
from stream.ingest.ending import fail_stop

T = TypeVar("T")


class Lookahead(Generic[T]):
    """Decodes batches ahead of applying them.

    Args:
        decode: what comes first.
        apply: what comes then, of one batch after the other.
    """

    def __init__(self, decode: Callable[[RecordBatch], Awaitable[T]], apply: Callable[[T], Awaitable[None]]) -> None:
        self._decode = decode
        self._apply = apply
        self._applying: asyncio.Future[None] | None = None

    async def take(self, batch: RecordBatch) -> None:
        """Decode a batch; returns once the one before is applied, and this one on its way."""
        decoded = await self._decode(batch)
        await self.settle()
        self._applying = asyncio.ensure_future(fail_stop(self._apply(decoded)))

    async def settle(self) -> None:
        """Wait until all that was taken is applied."""
        if self._applying is not None:
            await self._applying
