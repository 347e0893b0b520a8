"""The coalescing consumer: one Faust event per run of consecutive records of one partition.

Stock Faust spends 70-110 us per event, most of it in four asyncio tasks, whatever its settings; so the number of events
must fall. Faust's documented `ConsumerScheduler` decides what becomes an event: ours yields batches of raw records, and
every batch is contiguous and of one partition, which is what the fence in Redis needs.

Some private methods of Faust's consumer have to follow (`tests/test_coalesce.py` pins what is relied on):

* `_new_offset`, `_add_gap`: the commit logic counts events as single offsets; ours knows how far a batch reaches. The
  committed offset is only for lag tools: a worker starts behind the fence, never at the commit.
* `seek_to_committed`: start at fence + 1.
* `_new_consumer_thread`, `_create_worker_consumer`: a shorter long poll.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import faust
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

CODEC = "coldstream_record_batch"

_FETCH_MAX_WAIT_MS = 100


class RecordBatch:
    """Consecutive records of one partition; looks like one record to Faust, which reads it as offset `last`."""

    __slots__ = (
        "checksum",
        "first",
        "headers",
        "key",
        "offset",
        "partition",
        "records",
        "serialized_key_size",
        "serialized_value_size",
        "timestamp",
        "timestamp_type",
        "topic",
        "value",
    )

    def __init__(self, records: Sequence[Any]) -> None:
        last = records[-1]
        self.records = records
        self.topic: str = last.topic
        self.partition: int = last.partition
        self.first: int = records[0].offset
        self.offset: int = last.offset
        self.timestamp = last.timestamp
        self.timestamp_type = last.timestamp_type
        self.headers = ()
        self.key = self.checksum = None
        self.serialized_key_size = self.serialized_value_size = 0
        # Faust hands a record's value through the codec to the agent: the batch is its own value.
        self.value = self


class _PassThrough(codecs.Codec):  # type: ignore[misc]
    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


def split_batches(records: Mapping[TP, Sequence[Any]], size: int) -> Iterator[tuple[TP, RecordBatch]]:
    """Cut what one fetch brought into batches, those written longest ago first.

    Both topics are written as things happen, so the partition that lies behind in time goes first, and neither topic is
    read far ahead of the other.
    """
    heads = [(queue[0].timestamp, i, tp, 0) for i, (tp, queue) in enumerate(records.items()) if queue]
    heapq.heapify(heads)
    while heads:
        _, i, tp, start = heapq.heappop(heads)
        queue = records[tp]
        end = start + 1
        limit = min(start + size, len(queue))
        # Compacted topics and aborted transactions leave holes; a batch has none.
        while end < limit and queue[end].offset == queue[end - 1].offset + 1:
            end += 1
        yield tp, RecordBatch(queue[start:end])
        if end < len(queue):
            heapq.heappush(heads, (queue[end].timestamp, i, tp, end))


def scheduler(size: int) -> type:
    """A `ConsumerScheduler` that yields batches of at most `size` records."""

    class CoalescingScheduler:
        """Faust's extension point: decides the order and form in which fetched records become events."""

        def iterate(self, records: Mapping[TP, Sequence[Any]]) -> Iterator[tuple[TP, RecordBatch]]:
            return split_batches(records, size)

    return CoalescingScheduler


class _PromptConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with a shorter long poll."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust asks brokers to hold an empty fetch for 1.5 s; Tansu does so even when records come meanwhile."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        return consumer


class CoalescingConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, with commits that know batches, and a start at the fence."""

    start_offsets: Callable[[Sequence[TP]], Mapping[TP, int]] | None = None
    """Asked at every assignment for the first offset to read of each partition; blocking calls are fine."""

    def _new_consumer_thread(self) -> _PromptConsumerThread:
        return _PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

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

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to what `start_offsets` says."""
        offsets: dict[TP, int] = dict(await super().seek_to_committed())
        if self.start_offsets is not None:
            wanted = await asyncio.to_thread(self.start_offsets, list(offsets))
            await self.seek_wait(dict(wanted))
            offsets.update(wanted)
        return offsets


class CoalescingTransport(driver.Transport):  # type: ignore[misc]
    """Faust's Kafka transport with the coalescing consumer."""

    Consumer = CoalescingConsumer


def coalescing_app(
    name: str,
    brokers: str,
    batch: int,
    start_offsets: Callable[[Sequence[TP]], Mapping[TP, int]] | None,
    **options: Any,
) -> faust.App:
    """A Faust app whose events are `RecordBatch`es.

    Args:
        name: consumer group.
        brokers: `host:port[,host:port]`.
        batch: most records per event.
        start_offsets: first offset to read per assigned partition; None: what was committed.
        options: further Faust settings.
    """
    codecs.register(CODEC, _PassThrough())
    app = faust.App(
        name,
        broker=[f"kafka://{host}" for host in brokers.split(",")],
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        # Tansu answers a group join after half the session timeout; Faust's default of 60 s would mean half a minute.
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=1.0,
        # Counted in events, each of which is a whole batch here.
        stream_buffer_maxsize=32,
        ConsumerScheduler=scheduler(batch),
        **options,
    )

    class Consumer(CoalescingConsumer):
        pass

    # A plain function as class attribute would become a method.
    Consumer.start_offsets = staticmethod(start_offsets) if start_offsets is not None else None

    class Transport(CoalescingTransport):
        pass

    Transport.Consumer = Consumer
    app._new_transport = lambda: Transport(app.conf.broker_consumer, app)
    return app


def run_app(app: faust.App) -> None:
    """Run a Faust app until SIGTERM or SIGINT, with its warnings on stderr and nothing on stdout."""
    worker = faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False)
    # It would draw to stdout even when quiet.
    worker.spinner = None
    worker.execute_from_commandline()
