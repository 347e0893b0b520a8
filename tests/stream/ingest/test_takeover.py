"""Partitions are taken over one assignment at a time, and never once they are to be given back."""

import asyncio
import threading
from collections.abc import Callable, Mapping

import pytest
from faust.types import TP

from stream.ingest.consumer.takeover import IsOver, Takeover

EARLIEST = {TP("t", 0): 0, TP("t", 1): 0}
FENCES = {TP("t", 0): 10, TP("t", 1): 20}


class Slow:
    """Takes partitions over when it is let go on, one by one, as a worker does."""

    def __init__(self) -> None:
        self.go_on, self.has_begun = threading.Event(), threading.Event()
        self.taken: list[list[TP]] = []
        self.num_at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, earliest: Mapping[TP, int], is_over: IsOver) -> Mapping[TP, int]:
        mine: list[TP] = []
        with self._lock:
            self.taken.append(mine)
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
        for tp in earliest:
            if is_over():
                break
            mine.append(tp)
            self.has_begun.set()
            assert self.go_on.wait(10)
        with self._lock:
            self.num_at_once -= 1
        return FENCES


@pytest.fixture
def slow() -> Slow:
    return Slow()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


def test_what_is_assigned_is_taken_over(slow: Slow) -> None:
    async def run() -> None:
        takeover = Takeover(slow, lambda: False)
        slow.go_on.set()
        assert takeover.is_over
        assert await takeover.take(EARLIEST) == {}, "nothing has been assigned"
        takeover.begin()
        assert not takeover.is_over
        assert await takeover.take(EARLIEST) == FENCES

    asyncio.run(run())
    assert slow.taken == [list(EARLIEST)]


def test_whoever_gives_partitions_back_waits_until_none_is_being_taken_over(slow: Slow) -> None:
    async def run() -> None:
        takeover = Takeover(slow, lambda: False)
        takeover.begin()
        taking = asyncio.create_task(takeover.take(EARLIEST))
        await until(slow.has_begun.is_set)
        giving_back = asyncio.create_task(takeover.end())
        await asyncio.sleep(0.05)
        assert not giving_back.done()
        slow.go_on.set()
        await giving_back
        assert await taking == {}
        # As Faust asks when a fetch comes back in the middle of a rebalance.
        assert takeover.is_over
        assert await takeover.take(EARLIEST) == {}

    asyncio.run(run())
    assert slow.taken == [[TP("t", 0)]], "the rest is others'"


def test_a_call_that_was_given_up_is_waited_for_by_the_next_one(slow: Slow) -> None:
    """Faust cancels it when the next rebalance begins; its thread goes on."""

    async def run() -> None:
        takeover = Takeover(slow, lambda: False)
        takeover.begin()
        given_up = asyncio.create_task(takeover.take(EARLIEST))
        await until(slow.has_begun.is_set)
        given_up.cancel()
        takeover.begin()
        several = [asyncio.create_task(takeover.take(EARLIEST)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert len(slow.taken) == 1
        slow.go_on.set()
        assert await asyncio.gather(*several) == [FENCES, FENCES]

    asyncio.run(run())
    assert slow.most_at_once == 1
    assert slow.taken == [[TP("t", 0)], list(EARLIEST), list(EARLIEST)]


def test_a_worker_that_is_to_end_takes_nothing_over(slow: Slow) -> None:
    async def run() -> None:
        takeover = Takeover(slow, lambda: True)
        takeover.begin()
        assert await takeover.take(EARLIEST) == {}

    asyncio.run(run())
    assert slow.taken == []
