"""Which offsets a fetch covered, while another thread decides which partitions are read."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition
from faust.types import TP

from stream.ingest.consumer.backlog import Backlog
from stream.ingest.consumer.patience import Patience
from stream.ingest.consumer.reading import ReadingThread
from stream.ingest.consumer.record_batch import Fetched

ONE, OTHER = TP("impressions", 0), TP("impressions", 1)


def reading(positions: dict[TP, int]) -> tuple[ReadingThread, SimpleNamespace]:
    """A thread that was to read from offset 3 on, and its consumer, which has come to these positions."""
    thread = ReadingThread.__new__(ReadingThread)
    thread._next, thread._lost = dict.fromkeys(positions, 3), {}
    subscription = SubscriptionState()
    subscription.assign_from_user([TopicPartition(*tp) for tp in positions])
    assert subscription.subscription is not None
    for tp, position in positions.items():
        subscription.subscription.assignment.state_value(TopicPartition(*tp)).reset_to(position)
    return thread, SimpleNamespace(_subscription=subscription)


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test whose objects belong to an event loop."""

    @functools.wraps(test)
    def run() -> None:
        async def whole() -> None:
            await test()

        asyncio.run(whole())

    return run


@in_loop
async def test_records_of_a_partition_that_was_taken_out_meanwhile_are_not_passed_over() -> None:
    thread, consumer = reading({ONE: 5, OTHER: 7})
    records = {TopicPartition(*OTHER): ["3", "4", "5", "6"]}
    assert thread._ranges(consumer, records, {ONE}) == {
        ONE: Fetched((), 3, 5, 0),
        OTHER: Fetched(["3", "4", "5", "6"], 3, 7, 0),
    }
    assert thread._ranges(consumer, {}, {ONE, OTHER}) == {}


@in_loop
async def test_the_partitions_may_change_while_the_ranges_are_found() -> None:
    thread, consumer = reading({ONE: 5, OTHER: 7})
    active = {ONE}

    class Lost(dict[TP, int]):
        """Stands for the moment at which the other thread comes."""

        def pop(self, tp: TP, default: int = 0) -> int:  # type: ignore[override]
            active.symmetric_difference_update({OTHER, TP("feedback", 0), TP("feedback", 1)})
            return default

    thread._lost = Lost()
    assert thread._ranges(consumer, {TopicPartition(*OTHER): ["3"]}, active).keys() == {ONE, OTHER}


@in_loop
async def test_what_was_read_waits_for_partitions_of_which_there_is_more_but_not_for_ever() -> None:
    thread, consumer = reading({ONE: 3, OTHER: 3})
    thread._backlog, thread._patience = Backlog(100), Patience(0.2)
    thread.consumer = SimpleNamespace(flow_active=True)
    ends: dict[TP, int | None] = {ONE: 5, OTHER: None}
    comes: list[dict[TP, Fetched]] = []
    asked: list[tuple[set[TP], float | None]] = []

    async def fetch_more(
        consumer: object, wanted: set[TP], timeout: float | None, max_records: int | None
    ) -> dict[TP, Fetched]:
        asked.append((set(wanted), timeout))
        found = comes.pop(0) if comes else {}
        for tp, of in found.items():
            position = subscription(tp)
            position.consumed_to(of.next_offset)
        return found

    def subscription(tp: TP) -> Any:
        return consumer._subscription.subscription.assignment.state_value(TopicPartition(*tp))

    thread._fetch_more = fetch_more
    thread.highwater = ends.__getitem__

    async def read() -> dict[TP, Fetched]:
        return dict(await thread._fetch_records(consumer, {ONE, OTHER}, 1.0))

    record = SimpleNamespace(offset=3, timestamp=7)
    comes.append({ONE: Fetched([record, record], 3, 5)})
    # Of the other one nothing is known yet.
    assert await read() == {}
    # There is nothing.
    ends[OTHER] = 3
    assert await read() == {ONE: [record, record]}
    assert asked[0] == ({ONE, OTHER}, 1.0)
    assert asked[1][0] == {OTHER}
    # There is more of it, but its broker is away: for some time the rest waits, once.
    ends[OTHER], ends[ONE] = 9, 6
    comes.append({ONE: Fetched([record], 5, 6)})
    assert await read() == {}
    await asyncio.sleep(0.25)
    assert await read() == {ONE: [record]}
    ends[ONE] = 7
    comes.append({ONE: Fetched([record], 6, 7)})
    assert await read() == {ONE: [record]}
    # It is back.
    comes.append({OTHER: Fetched([record], 3, 4)})
    assert await read() == {OTHER: [record]}
