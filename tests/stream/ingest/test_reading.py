"""Which offsets a fetch covered, while another thread decides which partitions are read."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition
from faust.types import TP

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
