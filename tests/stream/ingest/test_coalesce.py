"""Batches: contiguous, of one partition, complete, the oldest first."""

from collections import namedtuple

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.ingest.record_batch import split_batches

Raw = namedtuple("Raw", "topic partition offset timestamp timestamp_type value")


def raw(tp: TP, offset: int, timestamp: int = 0) -> Raw:
    return Raw(tp.topic, tp.partition, offset, timestamp, 0, b"v")


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    holes=st.sets(st.integers(0, 39)),
    size=st.integers(1, 16),
)
def test_batches_are_contiguous_of_one_partition_and_complete(lengths: list[int], holes: set[int], size: int) -> None:
    records = {
        TP("t", p): [raw(TP("t", p), o, 100 * o + p) for o in range(n) if o not in holes] for p, n in enumerate(lengths)
    }
    seen: dict[TP, list[int]] = {tp: [] for tp in records}
    for tp, batch in split_batches(records, size):
        offsets = [r.offset for r in batch.records]
        assert 1 <= len(offsets) <= size
        assert offsets == list(range(batch.first, batch.offset + 1))
        assert {(r.topic, r.partition) for r in batch.records} == {tuple(tp)}
        seen[tp] += offsets
    assert seen == {tp: [r.offset for r in queue] for tp, queue in records.items()}


def test_what_was_written_longest_ago_comes_first() -> None:
    ahead, behind = TP("impressions", 0), TP("feedback", 0)
    records = {
        ahead: [raw(ahead, o, 1000 + o) for o in range(4)],
        behind: [raw(behind, o, 10 + 995 * (o // 2)) for o in range(4)],
    }
    order = [(batch.topic, batch.first) for _, batch in split_batches(records, 2)]
    assert order == [("feedback", 0), ("impressions", 0), ("impressions", 2), ("feedback", 2)]
