"""Consecutive records of one partition, and how what one fetch brought is cut into such batches."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from faust.types import TP, EventT


class TakenRecord(NamedTuple):
    """A record that came through Faust one by one."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds."""
    timestamp_type: int
    value: bytes | None


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


def batches_of_events(events: Sequence[EventT], size: int) -> Iterator[RecordBatch]:
    """Batches from events that Faust delivered one by one, of any partitions."""
    records: dict[TP, list[TakenRecord]] = {}
    for event in events:
        m = event.message
        # Faust keeps the record's time in seconds.
        record = TakenRecord(m.topic, m.partition, m.offset, round(m.timestamp * 1000), m.timestamp_type, m.value)
        records.setdefault(m.tp, []).append(record)
    for _, batch in split_batches(records, size):
        yield batch
