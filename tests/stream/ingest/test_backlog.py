"""What was read and is handed on later: every offset once, in order, and what was written longest ago first."""

import random
from itertools import pairwise
from typing import NamedTuple

import pytest
from faust.types import TP

from stream.ingest.consumer.backlog import Backlog
from stream.ingest.consumer.record_batch import Fetched

MOST = 1000


class Record(NamedTuple):
    offset: int
    timestamp: int


def fetched(rng: random.Random, first: int, num: int, began: int) -> Fetched:
    """Records with holes between them, and what was lost before them."""
    records, offset, at = [], first + 3, began
    for _ in range(num):
        records.append(Record(offset, at))
        offset, at = offset + rng.choice([1, 1, 1, 4]), at + rng.randrange(20)
    return Fetched(records, first, offset + 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_every_offset_is_handed_on_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    backlog, partitions = Backlog(MOST), [TP(topic, p) for topic in ("a", "b") for p in range(3)]
    whole = {
        tp: fetched(rng, rng.randrange(50), rng.choice([0, 1, 700, 5000]), rng.randrange(1000)) for tp in partitions
    }
    backlog.add(whole)
    found: dict[TP, list[Fetched]] = {tp: [] for tp in partitions}
    for _ in range(200):
        active = rng.sample(partitions, rng.randrange(7))
        some = backlog.take(active)
        assert set(some) <= set(active)
        assert sum(map(len, some.values())) <= MOST
        for tp, part in some.items():
            found[tp].append(part)
    for tp, part in backlog.take(partitions).items():
        found[tp].append(part)
    assert not backlog.partitions
    for tp, parts in found.items():
        assert [record for part in parts for record in part] == list(whole[tp])
        assert (parts[0].first, parts[-1].next_offset) == (whole[tp].first, whole[tp].next_offset)
        assert all(one.next_offset == other.first for one, other in pairwise(parts))
        assert [part.num_lost for part in parts] == [3, *[0] * (len(parts) - 1)]


def test_what_was_written_longest_ago_comes_first_whatever_one_fetch_brought() -> None:
    rng = random.Random(1)
    backlog, far, near = Backlog(MOST), TP("feedback", 0), TP("impressions", 0)
    backlog.add({far: fetched(rng, 0, 30_000, 0)})
    first = backlog.take([far, near])
    assert len(first[far]) == MOST
    # What was read since is older than the rest.
    backlog.add({near: fetched(rng, 0, 30_000, 0)})
    assert far in backlog
    second, third = backlog.take([far, near]), backlog.take([far, near])
    assert len(second[near]) > 0.7 * MOST
    assert min(len(third[far]), len(third[near])) > 0.3 * MOST
    # What is not asked for waits.
    assert set(backlog.take([near])) == {near}


def test_what_is_dropped_never_comes() -> None:
    backlog, tp = Backlog(MOST), TP("a", 0)
    backlog.add({tp: fetched(random.Random(1), 0, 10, 0)})
    backlog.drop(tp)
    backlog.drop(tp)
    assert tp not in backlog
    assert backlog.take([tp]) == {}
