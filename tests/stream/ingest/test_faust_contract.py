"""A test for each private piece of Faust that is relied on, and what both consumers promise on real brokers."""

import asyncio
import gc
import inspect
import json
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import faust
import mode
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust import streams
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from kafka import KafkaProducer

from stream.ingest.consumer.coalesce import CoalescingConsumer, coalescing_app
from stream.ingest.consumer.reading import ReadingThread
from stream.ingest.consumer.record_batch import Fetched, RecordBatch
from stream.kafka.topics import ensure_topics
from stream.sections import KafkaSettings

Raw = namedtuple("Raw", "topic partition offset timestamp timestamp_type value")


def raw(tp: TP, offset: int, timestamp: int = 0) -> Raw:
    return Raw(tp.topic, tp.partition, offset, timestamp, 0, b"v")


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
    # Finalisers that run while something is being compiled confuse Python 3.11 (gh-106905).
    gc.collect()


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
    batch = RecordBatch(tp, [raw(tp, 5), raw(tp, 6)], 5, 6)
    _, consumer = consumer_of()
    message = consumer._to_message(tp, batch)
    assert (message.value, message.offset, message.tp) == (batch, 6, tp)
    assert isinstance(consumer, CoalescingConsumer)
    assert next(iter(consumer.scheduler.iterate({tp: Fetched(batch.records, 5, 7)})))[1].offset == 6


@pytest.mark.parametrize(
    "name",
    [
        "_new_offset",
        "_add_gap",
        "seek_to_committed",
        "_new_consumer_thread",
        "on_partitions_revoked",
        "on_partitions_assigned",
        "on_stop",
        "_wait_next_records",
    ],
)
def test_overridden_methods_exist_with_the_same_signature(name: str) -> None:
    ours, theirs = getattr(CoalescingConsumer, name), getattr(driver.Consumer, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("name", ["_create_worker_consumer", "_seek_wait", "highwater", "_fetch_records", "_commit"])
def test_the_threads_overridden_methods_exist_with_the_same_signature(name: str) -> None:
    ours, theirs = getattr(ReadingThread, name), getattr(driver.AIOKafkaConsumerThread, name)
    assert ours is not theirs
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_a_member_is_ready_for_the_next_generation_only_when_its_partitions_are_given_back() -> None:
    """The listener is awaited before the group is joined anew; so what it waits for has ended by then."""
    source = inspect.getsource(GroupCoordinator.ensure_active_group)
    assert source.index("await self._on_join_prepare(") < source.index("await self._do_rejoin_group(")
    assert "await res" in inspect.getsource(GroupCoordinator._on_join_prepare)
    assert "await promise" in inspect.getsource(faust_consumer.ThreadDelegateConsumer.threadsafe_partitions_revoked)


def test_while_partitions_are_held_back_none_is_read(loop: asyncio.AbstractEventLoop) -> None:
    """Faust itself reads the others meanwhile, and sleeps for a second where it holds all back."""
    source = inspect.getsource(faust_consumer.Consumer._wait_next_records)
    assert "if is_client_only or active_partitions:" in source
    assert "await self.sleep(1)" in source
    asked: list[set[TP]] = []

    async def run() -> None:
        _, consumer = consumer_of()
        first, second, third = (TP("t", p) for p in range(3))

        async def getmany(active_partitions: set[TP], timeout: float) -> dict[TP, Fetched]:
            asked.append(set(active_partitions))
            return {}

        consumer._getmany = getmany
        consumer.flow_active = True
        consumer._active_partitions = {first, second, third}
        for tp in (first, second):
            consumer.on_buffer_full(tp)
        waiting = asyncio.ensure_future(consumer._wait_next_records(1.0))
        for tp in (first, second):
            await asyncio.sleep(0.1)
            assert not asked
            consumer.on_buffer_drop(tp)
        await waiting
        # A rebalance makes all active: what was held back before it is not waited for.
        consumer.on_buffer_full(first)
        consumer._set_active_tps({first, second})
        await consumer._wait_next_records(1.0)
        assert asked == [{first, second, third}, {first, second}]
        # Nor is it where the flow is to end.
        consumer.on_buffer_full(second)
        waiting = asyncio.ensure_future(consumer._wait_next_records(1.0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        consumer.stop_flow()
        consumer.can_resume_flow.set()
        await waiting

    loop.run_until_complete(run())


@pytest.mark.usefixtures("loop")
def test_commits_stop_before_the_oldest_batch_in_flight() -> None:
    tp = TP("t", 0)
    app, consumer = consumer_of()
    batches = [
        RecordBatch(tp, [raw(tp, o) for o in range(first, first + 10)], first, first + 9) for first in (0, 10, 20)
    ]
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


def test_the_inner_consumer_reads_as_it_is_told(loop: asyncio.AbstractEventLoop) -> None:
    async def told() -> tuple[int, str, str]:
        app, consumer = consumer_of()
        thread = consumer._new_consumer_thread()
        inner = thread._create_worker_consumer(app.transport)
        found = inner._fetch_max_wait_ms, inner._isolation_level, inner._auto_offset_reset
        inner._client = None  # never started: nothing to close
        inner._closed = True
        return found

    assert loop.run_until_complete(told()) == (100, "read_committed", "none")
    # Both are handed on when it starts.
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "isolation_level=self._isolation_level" in source
    assert "auto_offset_reset=self._auto_offset_reset" in source


def test_aiokafka_makes_records_by_a_method_of_a_class_that_its_module_names() -> None:
    assert list(inspect.signature(fetcher.PartitionRecords._consumer_record).parameters) == ["self", "tp", "record"]
    assert "= PartitionRecords(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "value_deserializer=self._value_deserializer" in inspect.getsource(AIOKafkaConsumer.start)


def test_a_worker_is_told_by_one_method_to_stop() -> None:
    for name in ("_on_sigint", "_on_sigterm"):
        assert "self._schedule_shutdown(" in inspect.getsource(getattr(mode.Worker, name))


@pytest.mark.usefixtures("loop")
def test_the_transport_is_made_by_the_app_from_broker_urls_and_itself() -> None:
    app, consumer = consumer_of()
    assert list(inspect.signature(faust.App._new_transport).parameters) == ["self"]
    assert type(app.transport).__mro__[1] is driver.Transport
    assert isinstance(consumer, app.transport.Consumer)


@pytest.mark.usefixtures("loop")
def test_a_message_carries_its_assignment_and_a_stream_skips_those_of_an_older_one() -> None:
    source = inspect.getsource(streams.Stream._py_aiter)
    assert "message.generation_id != self.app.consumer_generation_id" in source
    app, consumer = consumer_of()
    app.consumer_generation_id = 5
    tp = TP("t", 0)
    assert consumer._to_message(tp, RecordBatch(tp, [raw(tp, 0)], 0, 0)).generation_id == 5


def test_taken_events_are_acknowledged_even_if_the_agent_raises() -> None:
    """The reason why a worker that cannot go on ends its process."""
    source = inspect.getsource(streams.Stream.take_events)
    after_yield = source[source.index("yield list(events)") :]
    assert after_yield.index("finally:") < after_yield.index("await self.ack(event)")


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.Consumer, "seek_wait", ["partitions"]),
        (driver.Consumer, "earliest_offsets", ["partitions"]),
        (driver.Consumer, "highwater", ["tp"]),
        (driver.Consumer, "assignment", []),
        (driver.Producer, "send_and_wait", ["topic", "key", "value", "partition", "timestamp", "headers"]),
        (streams.Stream, "take_events", ["max_", "within"]),
        (streams.Stream, "events", []),
    ],
)
def test_what_is_called_has_the_signature_it_is_called_with(owner: type, name: str, parameters: list[str]) -> None:
    found = inspect.signature(getattr(owner, name)).parameters
    positional = [p for p in found.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert [p.name for p in positional[1 : 1 + len(parameters)]] == parameters
    assert all(p.default is not inspect.Parameter.empty for p in positional[1 + len(parameters) :])


def test_a_worker_has_a_spinner_that_can_be_taken_away() -> None:
    assert "if self.spinner:" in inspect.getsource(faust.Worker._on_startup_end_spinner)


# On real brokers ----------------------------------------------------------------------------------------------------

_READER = """
import json, os, sys, time
from stream.ingest.consumer.coalesce import coalescing_app
from stream.ingest.consumer.faust_app import CODEC, fenced_app, run_app
from stream.ingest.consumer.record_batch import batches_of_events
way, group, broker, topic, total, start = *sys.argv[1:5], int(sys.argv[5]), json.loads(sys.argv[6])
asked, since = {}, []
def starts(earliest, is_over):
    asked.update({tp.partition: offset for tp, offset in earliest.items() if tp.topic == topic})
    return {tp: start[str(tp.partition)] for tp in earliest if tp.topic == topic}
app = coalescing_app(group, broker, 64, starts) if way == "coalescing" else fenced_app(group, broker, starts)
seen = {}
async def end_when_all_is_seen():
    if sum(last - first + 1 for batches in seen.values() for first, last in batches) >= total:
        since.append(time.monotonic())
        offsets = app.consumer._committed_offset.items()
        committed = {tp.partition: offset for tp, offset in offsets if tp.topic == topic}
        ends = {int(p): batches[-1][1] + 1 for p, batches in seen.items()}
        # Commits go out once a second.
        if committed != ends and since[-1] - since[0] < 10:
            return
        print(json.dumps({"seen": seen, "committed": committed, "earliest": asked}), flush=True)
        os._exit(0)
app.timer(0.2)(end_when_all_is_seen)
async def read(stream):
    if way == "coalescing":
        async for event in stream.events():
            seen.setdefault(event.value.partition, []).append([event.value.first, event.value.offset])
    else:
        async for events in stream.take_events(64, within=0.1):
            for b in batches_of_events(events, 64):
                seen.setdefault(b.partition, []).append([b.first, b.offset])
app.agent(app.topic(topic, value_serializer=CODEC, key_serializer="raw"))(read)
run_app(app)
"""


def read(way: str, broker: str, topic: str, total: int, start: dict[int, int]) -> dict:
    found: dict = told(60, _READER, way, f"g-{topic}", broker, topic, str(total), json.dumps(start))
    return found


def told(within_s: float, script: str, *arguments: str) -> Any:
    """What a script says in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["coalescing", "plain"])
def test_it_starts_where_it_is_told_reads_everything_once_and_commits_the_end(way: str, broker: str) -> None:
    topic = f"read-{way}"
    kafka = KafkaSettings(url=broker, impressions=topic, feedback=f"{topic}-feedback", partitions=2)
    ensure_topics(kafka)
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=5)
    for n in range(3000):
        producer.send(topic, value=b"%d" % n, partition=n % 2)
    producer.flush()
    producer.close()
    start = {0: 100, 1: 1499}
    found = read(way, broker, topic, 1401, start)
    assert found["earliest"] == {"0": 0, "1": 0}
    for partition, first in start.items():
        batches = found["seen"][str(partition)]
        covered = [o for b in batches for o in range(b[0], b[1] + 1)]
        assert covered == list(range(first, 1500))
        assert all(last - first < 64 for first, last in batches)
        assert found["committed"][str(partition)] == 1500


_ORDER = """
import asyncio, json, os, sys
from stream.ingest.consumer.coalesce import coalescing_app
from stream.ingest.consumer.faust_app import CODEC, run_app
broker, impressions, feedback, total = *sys.argv[1:4], int(sys.argv[4])
starts = lambda earliest, is_over: earliest
app = coalescing_app("g-" + impressions, broker, 64, starts, before=impressions)
shown, num, num_early = set(), 0, 0
async def read(stream):
    global num, num_early
    async for event in stream.events():
        batch = event.value
        values = {record.value for record in batch.records}
        if batch.topic == impressions:
            shown.update(values)
        else:
            num_early += len(values - shown)
        num += len(values)
        if num == total:
            print(json.dumps(num_early), flush=True)
            os._exit(0)
        # Faust holds partitions back while many batches wait.
        await asyncio.sleep(0.005)
app.agent(app.topic(impressions, feedback, value_serializer=CODEC, key_serializer="raw"))(read)
run_app(app)
"""


@pytest.mark.slow
def test_feedback_comes_behind_what_it_is_about_however_far_behind_a_worker_is(broker: str) -> None:
    kafka = KafkaSettings(url=broker, impressions="shown", feedback="told", partitions=4)
    ensure_topics(kafka)
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=5)
    num = 20_000
    for n in range(num):
        for topic in ("shown", "told"):
            producer.send(topic, value=b"%d" % n, partition=n % 4)
    producer.flush()
    producer.close()
    num_early = told(120, _ORDER, broker, "shown", "told", str(2 * num))
    # A client writes its buffers one after the other: at some moments one topic is ahead by one of them.
    assert num_early < 0.1 * num
