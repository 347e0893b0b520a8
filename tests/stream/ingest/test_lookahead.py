"""Batches are decoded ahead, and applied in their order; one that takes long holds no other partition back."""

import asyncio

from faust.types import TP

from stream.ingest.consumer.record_batch import RecordBatch
from stream.ingest.lookahead import Lookahead


def batch(number: int) -> RecordBatch:
    return RecordBatch(TP("impressions", 0), [], number, number)


def test_eight_batches_are_applied_or_stand_ready_and_one_is_decoded() -> None:
    asyncio.run(_ahead())


async def _ahead() -> None:
    decoded, asked, applied = list[int](), list[int](), list[int]()
    may_go_on = asyncio.Semaphore(0)
    one_at_a_time = asyncio.Lock()

    async def decode(of: RecordBatch) -> int:
        decoded.append(of.first)
        return of.first

    async def apply(number: int) -> None:
        asked.append(number)
        async with one_at_a_time:
            await may_go_on.acquire()
            applied.append(number)

    lookahead = Lookahead(decode, apply)

    async def all_of_them() -> None:
        for number in range(13):
            await lookahead.take(batch(number))
        await lookahead.settle()

    taking = asyncio.ensure_future(all_of_them())
    for done in range(13):
        for _ in range(20):
            await asyncio.sleep(0)
        assert applied == list(range(done))
        assert asked == list(range(min(done + 8, 13)))
        assert decoded == list(range(min(done + 9, 13)))
        may_go_on.release()
    await taking
    assert applied == list(range(13))


def test_one_that_takes_long_lets_those_of_other_partitions_pass() -> None:
    asyncio.run(_past_a_slow_one())


async def _past_a_slow_one() -> None:
    applied, may_end = list[int](), asyncio.Event()

    async def decode(of: RecordBatch) -> int:
        return of.first

    async def apply(number: int) -> None:
        if number == 0:
            await may_end.wait()
        applied.append(number)

    lookahead = Lookahead(decode, apply)
    for number in range(30):
        await asyncio.wait_for(lookahead.take(batch(number)), 60)
    may_end.set()
    await lookahead.settle()
    assert sorted(applied) == list(range(30))
    assert applied.index(0) > 20
