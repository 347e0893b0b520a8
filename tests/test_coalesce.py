"""The coalescing consumer: what it promises, and a contract test for each private piece of Faust that it relies on."""

import asyncio
import inspect
import json
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator

import faust
import pytest
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from stream.coalesce import CoalescingConsumer, RecordBatch, coalescing_app, split_batches
from stream.settings import KafkaSettings
from stream.topics import ensure_topics

Raw = namedtuple("Raw", "topic partition offset timestamp timestamp_type value")


def raw(tp: TP, offset: int, timestamp: int = 0) -> Raw:
    return Raw(tp.topic, tp.partition, offset, timestamp, 0, b"v")


# Batches ------------------------------------------------------------------------------------------------------------


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


# What is relied on in Faust -----------------------------------------------------------------------------------------


def consumer_of() -> tuple[faust.App, CoalescingConsumer]:
    """A consumer as a worker would have it, without a broker."""
    app = coalescing_app("contract", "127.0.0.1:1", 16, None)
    return app, app._new_consumer()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    new = asyncio.new_event_loop()
    asyncio.set_event_loop(new)
    yield new
    asyncio.set_event_loop(None)
    new.close()


def test_faust_is_the_series_the_contract_was_checked_for() -> None:
    assert faust.__version__.startswith("0.15.")


def test_faust_asks_the_configured_scheduler_for_every_fetch() -> None:
    assert "self.app.conf.ConsumerScheduler()" in inspect.getsource(faust_consumer.Consumer.__init__)
    assert "self.scheduler.iterate(records)" in inspect.getsource(faust_consumer.Consumer.getmany)


def test_faust_reads_of_a_record_only_what_a_batch_has() -> None:
    source = inspect.getsource(driver.Consumer._to_message)
    used = {word.split("record.")[1].strip("(),:\n ") for word in source.split() if "record." in word}
    names = {u.split(")")[0].split(",")[0] for u in used}
    assert names <= set(RecordBatch.__slots__), names


@pytest.mark.usefixtures("loop")
def test_a_batch_arrives_in_the_agent_as_its_own_value() -> None:
    tp = TP("t", 0)
    batch = RecordBatch([raw(tp, 5), raw(tp, 6)])
    _, consumer = consumer_of()
    message = consumer._to_message(tp, batch)
    assert (message.value, message.offset, message.tp) == (batch, 6, tp)
    assert isinstance(consumer, CoalescingConsumer)
    assert next(iter(consumer.scheduler.iterate({tp: batch.records})))[1].offset == 6


@pytest.mark.parametrize("name", ["_new_offset", "_add_gap", "seek_to_committed", "_new_consumer_thread"])
def test_overridden_methods_exist_with_the_same_signature(name: str) -> None:
    ours, theirs = getattr(CoalescingConsumer, name), getattr(driver.Consumer, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.usefixtures("loop")
def test_commits_stop_before_the_oldest_batch_in_flight() -> None:
    tp = TP("t", 0)
    app, consumer = consumer_of()
    batches = [RecordBatch([raw(tp, o) for o in range(first, first + 10)]) for first in (0, 10, 20)]
    messages = [consumer._to_message(tp, b) for b in batches]
    app.topics.acks_enabled_for = lambda _: True
    for message in messages:
        consumer._unacked_messages.add(message)
    assert consumer._new_offset(tp) is None
    consumer.ack(messages[1])
    assert consumer._new_offset(tp) == 0
    consumer.ack(messages[0])
    assert consumer._new_offset(tp) == 20
    consumer.ack(messages[2])
    assert consumer._new_offset(tp) == 30


def test_the_long_poll_is_short() -> None:
    async def long_poll() -> int:
        app, consumer = consumer_of()
        thread = consumer._new_consumer_thread()
        inner = thread._create_worker_consumer(app.transport)
        wait: int = inner._fetch_max_wait_ms
        inner._client = None  # never started: nothing to close
        inner._closed = True
        return wait

    assert asyncio.run(long_poll()) == 100


# On real brokers ----------------------------------------------------------------------------------------------------

_READER = """
import asyncio, json, os, sys
from stream.coalesce import CODEC, coalescing_app, run_app
group, broker, topic, total, start = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5])
def starts(tps):
    return {tp: start[str(tp.partition)] for tp in tps if tp.topic == topic}
app = coalescing_app(group, broker, 64, starts)
seen = {}
@app.agent(app.topic(topic, value_serializer=CODEC, key_serializer="raw"))
async def read(stream):
    async for event in stream.events():
        b = event.value
        seen.setdefault(b.partition, []).append([b.first, b.offset])
        event.ack()
        if sum(last - first + 1 for batches in seen.values() for first, last in batches) >= total:
            await asyncio.sleep(2.5)
            offsets = app.consumer._committed_offset.items()
            committed = {tp.partition: offset for tp, offset in offsets if tp.topic == topic}
            print(json.dumps({"seen": seen, "committed": committed}), flush=True)
            os._exit(0)
run_app(app)
"""


def read(broker: str, topic: str, total: int, start: dict[int, int]) -> dict:
    arguments = [f"g-{topic}", broker, topic, str(total), json.dumps(start)]
    done = subprocess.run(
        [sys.executable, "-c", _READER, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_it_starts_where_it_is_told_reads_everything_once_and_commits_the_end(broker: str) -> None:
    kafka = KafkaSettings(url=broker, impressions="coalesce", feedback="coalesce-feedback", partitions=2)
    ensure_topics(kafka)
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=5)
    for n in range(3000):
        producer.send("coalesce", value=b"%d" % n, partition=n % 2)
    producer.flush()
    producer.close()
    start = {0: 100, 1: 1499}
    found = read(broker, "coalesce", 1401, start)
    for partition, first in start.items():
        batches = found["seen"][str(partition)]
        covered = [o for b in batches for o in range(b[0], b[1] + 1)]
        assert covered == list(range(first, 1500))
        assert all(last - first < 64 for first, last in batches)
        assert found["committed"][str(partition)] == 1500
