"""Batches of a partition pass in order, and none passes while too many samples wait, those on their way included."""

import asyncio
from collections.abc import Awaitable, Callable

from stream.ingest.pressure import Pressure


async def _soon(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def in_time(test: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))  # type: ignore[arg-type]


def test_batches_wait_for_the_learner_and_keep_their_order() -> None:
    in_time(_in_order())


async def _in_order() -> None:
    backlog, passed = 0, list[int]()

    async def look(_: int) -> int:
        return backlog

    pressure = Pressure(100, look, lambda: True)

    async def apply(n: int) -> None:
        nonlocal backlog
        async with pressure.turn(0, 30):
            passed.append(n)
        await asyncio.sleep(0.001)
        backlog += 60
        pressure.ended(0, 30, backlog)

    batches = [asyncio.ensure_future(apply(n)) for n in range(8)]
    await _soon(lambda: pressure.num_paused > 3)
    # Four on their way could make more samples than there is room for; what three made is more.
    assert passed == [0, 1, 2, 3]
    while not all(batch.done() for batch in batches):
        before = len(passed)
        backlog = 0
        await _soon(lambda before=before: len(passed) > before or all(batch.done() for batch in batches))
        assert len(passed) - before <= 4
    assert passed == list(range(8))


def test_another_partition_is_not_held_back_and_a_worker_that_stops_waits_no_longer() -> None:
    in_time(_others())


async def _others() -> None:
    may_wait = True

    async def look(_: int) -> int:
        return 1000

    pressure = Pressure(100, look, lambda: may_wait)
    async with pressure.turn(0, 10):
        pass
    pressure.ended(0, 10, 1000)

    async def turn() -> None:
        async with pressure.turn(0, 10):
            pass

    waiting = asyncio.ensure_future(turn())
    async with pressure.turn(1, 10):
        pass
    await _soon(lambda: pressure.num_paused > 1)
    assert not waiting.done()
    may_wait = False
    await waiting
