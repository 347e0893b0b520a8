"""A batch: what was read of a range of one partition's offsets, and how what one fetch brought is cut into batches.

Not each offset is a record: transactions leave markers, aborted ones their records, compaction and retention leave
nothing. So a fetch says which range it covered, and the batches of it cover the range without a hole.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from faust.types import TP, EventT


class Fetched(list[Any]):
    """Records that one fetch brought of a partition, and the range of offsets that it covered.

    Args:
        records: in order.
        first: first offset of the range.
        next_offset: where the next fetch begins.
        num_lost: how many of the first offsets were gone from the log before they were read.
    """

    def __init__(self, records: Sequence[Any], first: int, next_offset: int, num_lost: int = 0) -> None:
        super().__init__(records)
        self.first = first
        self.next_offset = next_offset
        self.num_lost = num_lost


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
    """What was read of the offsets `first` to `offset` of one partition; looks like one record, the last, to Faust.

    Args:
        tp: topic and partition.
        records: those of the range, in order; there may be none.
        first: first offset of the range.
        last: its last offset.
        num_lost: how many of the first offsets were gone from the log before they were read.
    """

    __slots__ = (
        "checksum",
        "first",
        "headers",
        "key",
        "num_lost",
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

    def __init__(self, tp: TP, records: Sequence[Any], first: int, last: int, num_lost: int = 0) -> None:
        self.records = records
        self.topic: str = tp[0]
        self.partition: int = tp[1]
        self.first = first
        self.offset = last
        self.num_lost = num_lost
        self.timestamp = records[-1].timestamp if records else 0
        self.timestamp_type = records[-1].timestamp_type if records else 0
        self.headers = ()
        self.key = self.checksum = None
        self.serialized_key_size = self.serialized_value_size = 0
        # Faust hands a record's value through the codec to the agent: the batch is its own value.
        self.value = self


def split_batches(fetched: Mapping[TP, Fetched], size: int, before: str = "") -> Iterator[tuple[TP, RecordBatch]]:
    """Cut what one fetch brought into batches, those written longest ago first.

    Both topics are written as things happen, so the partition that lies behind in time goes first, and neither topic is
    read far ahead of the other.

    Args:
        fetched: what was read.
        size: most records of a batch.
        before: all of this topic comes before the rest, which then finds what it is about.
    """
    heads = [
        (tp.topic != before, written(queue, 0), i, tp, 0, queue.first) for i, (tp, queue) in enumerate(fetched.items())
    ]
    heapq.heapify(heads)
    while heads:
        later, _, i, tp, start, first = heapq.heappop(heads)
        queue = fetched[tp]
        end = min(start + size, len(queue))
        is_last = end >= len(queue)
        last = queue.next_offset - 1 if is_last else queue[end - 1].offset
        if last >= first:
            yield tp, RecordBatch(tp, queue[start:end], first, last, 0 if start else queue.num_lost)
        if not is_last:
            heapq.heappush(heads, (later, written(queue, end), i, tp, end, last + 1))


def written(queue: Fetched, n: int) -> int:
    """When a record was written; offsets that are no records hold nobody up."""
    return queue[n].timestamp or 0 if n < len(queue) else 0


def one_by_one(fetched: Mapping[TP, Fetched]) -> Iterator[tuple[TP, Any]]:
    """Each record by itself, and each run of offsets without a record as an empty batch."""
    for tp, batch in split_batches(fetched, 1):
        at = batch.first
        for record in batch.records:
            if record.offset > at:
                yield tp, RecordBatch(tp, (), at, record.offset - 1, batch.num_lost)
            yield tp, record
            at = record.offset + 1
        if at <= batch.offset:
            yield tp, RecordBatch(tp, (), at, batch.offset, batch.num_lost if at == batch.first else 0)


def batches_of_events(events: Sequence[EventT], size: int, before: str = "") -> Iterator[RecordBatch]:
    """Batches from events that Faust delivered one by one, of any partitions (`split_batches`)."""
    ranges: dict[TP, Fetched] = {}
    for event in events:
        m = event.message
        passed = m.value if isinstance(m.value, RecordBatch) else None
        found = ranges.setdefault(m.tp, Fetched((), passed.first if passed else m.offset, 0))
        found.next_offset = m.offset + 1
        if passed is not None:
            found.num_lost += passed.num_lost
            continue
        # Faust keeps the record's time in seconds.
        written = round(m.timestamp * 1000) if m.timestamp is not None else 0
        found.append(TakenRecord(m.topic, m.partition, m.offset, written, m.timestamp_type, m.value))
    for _, batch in split_batches(ranges, size, before):
        yield batch
