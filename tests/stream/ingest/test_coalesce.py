"""Batches: of one partition, without a hole, complete, the oldest first."""

from collections import namedtuple
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from stream.ingest.consumer.record_batch import Fetched, RecordBatch, batches_of_events, one_by_one, split_batches

Raw = namedtuple("Raw", "topic partition offset timestamp timestamp_type value")


def raw(tp: TP, offset: int, timestamp: int = 0) -> Raw:
    return Raw(tp.topic, tp.partition, offset, timestamp, 0, b"v")


@st.composite
def fetches(draw: st.DrawFn) -> dict[TP, Fetched]:
    """What one fetch brought of some partitions: records, and offsets that are none before, between and behind them."""
    found = {}
    for p in range(draw(st.integers(1, 4))):
        tp = TP("t", p)
        first = draw(st.integers(0, 50))
        offsets = sorted(draw(st.sets(st.integers(first, first + 40))))
        next_offset = (offsets[-1] if offsets else first) + 1 + draw(st.integers(0, 5))
        lost = draw(st.integers(0, (offsets[0] if offsets else next_offset) - first))
        found[tp] = Fetched([raw(tp, o, 100 * o + p) for o in offsets], first, next_offset, lost)
    return found


@given(fetched=fetches(), size=st.integers(1, 16))
def test_batches_cover_a_fetch_without_a_hole(fetched: dict[TP, Fetched], size: int) -> None:
    ends = {tp: queue.first for tp, queue in fetched.items()}
    seen: dict[TP, list[int]] = {tp: [] for tp in fetched}
    lost = dict.fromkeys(fetched, 0)
    for tp, batch in split_batches(fetched, size):
        assert (batch.topic, batch.partition, batch.first) == (*tp, ends[tp])
        offsets = [r.offset for r in batch.records]
        assert len(offsets) <= size
        assert all(batch.first <= o <= batch.offset for o in offsets)
        seen[tp] += offsets
        ends[tp] = batch.offset + 1
        lost[tp] += batch.num_lost
    assert ends == {tp: queue.next_offset for tp, queue in fetched.items()}
    assert seen == {tp: [r.offset for r in queue] for tp, queue in fetched.items()}
    assert lost == {tp: queue.num_lost for tp, queue in fetched.items()}


@given(fetched=fetches(), size=st.integers(1, 16))
def test_records_that_come_one_by_one_make_the_same_batches(fetched: dict[TP, Fetched], size: int) -> None:
    events = [SimpleNamespace(message=SimpleNamespace(**message(tp, value))) for tp, value in one_by_one(fetched)]

    def covered(batches: Iterable[RecordBatch]) -> dict[tuple[str, int], tuple[list[int], int, int, int]]:
        by_tp: dict[tuple[str, int], list[RecordBatch]] = {}
        for batch in batches:
            by_tp.setdefault((batch.topic, batch.partition), []).append(batch)
        return {
            tp: ([r.offset for b in of for r in b.records], of[0].first, of[-1].offset, sum(b.num_lost for b in of))
            for tp, of in by_tp.items()
        }

    assert covered(batches_of_events(events, size)) == covered(batch for _, batch in split_batches(fetched, size))


def message(tp: TP, value: Any) -> dict[str, Any]:
    return {
        "tp": tp,
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": value.offset,
        "timestamp": value.timestamp / 1000,
        "timestamp_type": 0,
        "value": value if isinstance(value, RecordBatch) else value.value,
    }


def test_what_was_written_longest_ago_comes_first() -> None:
    ahead, behind = TP("impressions", 0), TP("feedback", 0)
    fetched = {
        ahead: Fetched([raw(ahead, o, 1000 + o) for o in range(4)], 0, 4),
        behind: Fetched([raw(behind, o, 10 + 995 * (o // 2)) for o in range(4)], 0, 4),
    }
    order = [(batch.topic, batch.first) for _, batch in split_batches(fetched, 2)]
    assert order == [("feedback", 0), ("impressions", 0), ("impressions", 2), ("feedback", 2)]
    of_one_topic_first = [(batch.topic, batch.first) for _, batch in split_batches(fetched, 2, "impressions")]
    assert of_one_topic_first == [("impressions", 0), ("impressions", 2), ("feedback", 0), ("feedback", 2)]
