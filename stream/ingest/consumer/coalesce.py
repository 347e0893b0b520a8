"""The coalescing consumer: one Faust event per batch of records of one partition.

Stock Faust spends 70-110 us per event, most of it in four asyncio tasks, whatever its settings; so the number of events
must fall. Faust's documented `ConsumerScheduler` decides what becomes an event: ours yields batches of raw records.
Each covers a range of offsets of one partition right behind the one before, which is what the fence in Redis needs.

Two more private methods of Faust's consumer have to follow (`tests/stream/ingest/test_faust_contract.py` pins them):
`_new_offset` and `_add_gap`, the commit logic, count events as single offsets; ours knows how far a batch reaches. The
committed offset is only for lag tools: a worker starts behind the fence, never at the commit.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import faust
from faust.types import TP

from stream.ingest.consumer.faust_app import FencedConsumer, fenced_app
from stream.ingest.consumer.reading import ReadingOptions
from stream.ingest.consumer.record_batch import Fetched, RecordBatch, split_batches
from stream.ingest.consumer.takeover import StartOffsets

_AT_ONCE = 8
"""Batches that the thread that reads hands on together: enough for all that are applied at once."""


def scheduler(size: int, before: str = "") -> type:
    """A `ConsumerScheduler` that yields batches of at most `size` records, those of the topic `before` first."""

    class CoalescingScheduler:
        """Faust's extension point: decides the order and form in which fetched records become events."""

        def iterate(self, records: Mapping[TP, Fetched]) -> Iterator[tuple[TP, RecordBatch]]:
            return split_batches(records, size, before)

    return CoalescingScheduler


class CoalescingConsumer(FencedConsumer):
    """Commits that know batches."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets inside a batch are not gaps."""

    def _new_offset(self, tp: TP) -> int | None:
        """First offset not yet acknowledged: that of the oldest batch in flight, else behind the newest acked one."""
        acked = self._acked[tp]
        if not acked:
            return None
        in_flight = [m.value.first for m in self._unacked_messages if m.tp == tp and not m.acked]
        offset: int = min([max(acked) + 1, *in_flight])
        # What was acknowledged behind a batch in flight counts once that batch is.
        self._acked_index[tp].difference_update(o for o in acked if o < offset)
        acked[:] = [o for o in acked if o >= offset]
        return offset


def coalescing_app(
    name: str,
    brokers: str,
    batch: int,
    start_offsets: StartOffsets | None,
    reading: ReadingOptions | None = None,
    before: str = "",
    **options: Any,
) -> faust.App:
    """A Faust app whose events are `RecordBatch`es.

    Args:
        name: consumer group.
        brokers: `host:port[,host:port]`.
        batch: most records per event.
        start_offsets: where to start, per assigned partition; None: what was committed.
        reading: how its thread reads.
        before: topic whose batches come first, of those that were read together.
        options: further Faust settings.
    """
    return fenced_app(
        name,
        brokers,
        start_offsets,
        CoalescingConsumer,
        reading=(reading or ReadingOptions())._replace(as_decoded=True, at_once=_AT_ONCE * batch),
        # Counted in events, each of which is a whole batch here.
        stream_buffer_maxsize=32,
        ConsumerScheduler=scheduler(batch, before),
        **options,
    )
