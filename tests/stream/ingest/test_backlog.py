"""What was read and is handed on later: every offset once, in order, and what was written longest ago first."""

import random
from itertools import pairwise
from typing import NamedTuple

import pytest
from faust.types import TP

from stream.ingest.consumer.backlog import Backlog
from stream.ingest.consumer.record_batch import Fetched

MOST = 1000
NOW_MS = 10**9


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
    backlog.add(whole, NOW_MS)
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
    backlog.add({far: fetched(rng, 0, 30_000, 0)}, NOW_MS)
    first = backlog.take([far, near])
    assert len(first[far]) == MOST
    # What was read since is older than the rest.
    backlog.add({near: fetched(rng, 0, 30_000, 0)}, NOW_MS)
    assert far in backlog
    second, third = backlog.take([far, near]), backlog.take([far, near])
    assert len(second[near]) > 0.7 * MOST
    assert min(len(third[far]), len(third[near])) > 0.3 * MOST
    # What is not asked for waits.
    assert set(backlog.take([near])) == {near}


@pytest.mark.parametrize("seed", range(5))
def test_all_partitions_are_handed_on_up_to_the_same_moment(seed: int) -> None:
    rng = random.Random(seed)
    backlog, partitions = Backlog(MOST), [TP(topic, p) for topic in ("a", "b") for p in range(rng.choice([1, 3, 40]))]
    sizes = [5000, *rng.choices([1, 300, 5000], k=len(partitions) - 1)]
    backlog.add(
        {tp: fetched(rng, 0, num, rng.randrange(3000)) for tp, num in zip(partitions, sizes, strict=True)}, NOW_MS
    )
    handed_on = 0
    while backlog.partitions:
        some = backlog.take(partitions)
        newest = max(record.timestamp for part in some.values() for record in part)
        left = [found[at].timestamp for found, at, _ in backlog._held.values()]
        assert newest <= min(left, default=newest)
        handed_on += 1
    assert handed_on > 1


def test_others_wait_for_what_comes_next_of_a_partition_that_has_more() -> None:
    rng = random.Random(1)
    backlog, short, long = Backlog(MOST), TP("impressions", 0), TP("feedback", 0)
    whole = {short: fetched(rng, 0, 50, 0), long: fetched(rng, 0, 5000, 0)}
    last = whole[short][-1].timestamp
    backlog.add(whole, NOW_MS)
    first = backlog.take([short, long], [short, long])
    assert len(first[short]) == 50
    assert first[long][-1].timestamp <= last < backlog.take([short, long], [long])[long][0].timestamp


def test_clocks_that_go_backwards_stop_nothing() -> None:
    rng = random.Random(1)
    backlog, partitions = Backlog(MOST), [TP("a", p) for p in range(3)]
    records = {tp: [Record(n, rng.randrange(-5, 5) * 10**6) for n in range(4000)] for tp in partitions}
    backlog.add({tp: Fetched(of, 0, 4000) for tp, of in records.items()}, NOW_MS)
    num = 0
    while backlog.partitions:
        some = backlog.take(partitions, partitions)
        assert some
        num += sum(map(len, some.values()))
    assert num == 12_000


def test_what_claims_to_be_written_in_the_future_is_held_back_only_until_others_come_to_when_it_was_read() -> None:
    backlog, honest, ahead = Backlog(MOST), TP("a", 0), TP("a", 1)
    backlog.add({ahead: Fetched([Record(n, 10**12) for n in range(100)], 0, 100)}, 1500)
    num_honest = 0
    for at in range(0, 3000, MOST):
        backlog.add({honest: Fetched([Record(at + n, at + n) for n in range(MOST)], at, at + MOST)}, at + MOST)
        some = backlog.take([honest, ahead], [honest])
        if ahead in some:
            break
        num_honest += len(some[honest])
        assert honest not in backlog
    assert len(some[ahead]) == 100
    assert num_honest < 1500 < num_honest + MOST


def test_what_is_dropped_never_comes() -> None:
    backlog, tp = Backlog(MOST), TP("a", 0)
    backlog.add({tp: fetched(random.Random(1), 0, 10, 0)}, NOW_MS)
    backlog.drop(tp)
    backlog.drop(tp)
    assert tp not in backlog
    assert backlog.take([tp]) == {}
