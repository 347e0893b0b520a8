"""Offsets that are no records, encodings of other producers, records in the wrong place: on Apache Kafka."""

import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from simulators.apache_kafka import ApacheKafka
from simulators.encoding import LogEntry
from simulators.log_reader import read_log
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.runs.log_writer import CODECS, LogWriter
from state_store.client import connect
from state_store.keys import Keys
from stream.command.roles import Role, wait_until
from stream.events import Impression, encode_event
from stream.kafka.topics import ensure_topics
from stream.partitioning import partition_of
from stream.process.store import open_store
from stream.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

PARTITIONS = 2


BOTH_WAYS = pytest.mark.parametrize("consumer", ["coalescing", "plain"])
"""How the worker reads."""


def shown(numbers: Sequence[int], *, user: str = "", misplaced: bool = False) -> list[LogEntry]:
    """Impressions of now, of many users or of one."""
    entries, now = [], time.time_ns() // 1_000_000
    for n in numbers:
        name = user or f"u{n % 17}"
        home = partition_of(name, PARTITIONS)
        event = Impression(imp_id=f"a{n}", user_id=name, item_id=f"i{n % 5}", ts=now)
        entries.append(LogEntry(0, 1 - home if misplaced else home, name.encode(), encode_event(event)))
    return entries


class Cluster:
    """A pipeline on Apache Kafka with one worker, and somebody who writes to it."""

    def __init__(self, settings: Settings, url: str, folder: Path) -> None:
        kafka = msgspec.structs.replace(settings.kafka, url=url)
        worker = msgspec.structs.replace(settings.worker, stalled_after_s=4.0)
        self.settings = msgspec.structs.replace(settings, kafka=kafka, worker=worker)
        ensure_topics(kafka)
        self.writer = LogWriter(self.settings, random.Random(1))
        self.store = open_store(self.settings, connect(settings.redis))
        self.worker = Role("worker", self.settings, folder)

    def count(self, name: str) -> int:
        return self.store.fence_counts(range(PARTITIONS)).get(name, 0)

    def wait_for(self, name: str, count: int) -> None:
        wait_until(lambda: self.count(name) >= count, f"{count} {name}", [self.worker])
        assert self.count(name) == count

    def lag(self) -> int:
        reports = self.store.client.hvals(Keys(self.settings.redis.prefix).worker_status)
        return sum(sum(msgspec.json.decode(report)["lag"].values()) for report in reports)

    def wait_until_read(self) -> None:
        """Every fence is at its log's end, and the worker says so."""
        ends = self.writer.ends()

        def is_read() -> bool:
            fences = self.store.fence_offsets(range(PARTITIONS))
            return self.lag() == 0 and all(
                fences[p][self.settings.topics[t]] == end - 1 for (t, p), end in ends.items() if end
            )

        wait_until(is_read, "the fences to be at the ends of the log", [self.worker])


@pytest.fixture
def cluster(settings: Settings, apache_kafka: str, tmp_path: Path) -> Cluster:
    return Cluster(settings, apache_kafka, tmp_path)


@BOTH_WAYS
def test_markers_and_aborted_records_are_passed_over(cluster: Cluster) -> None:
    with cluster.worker:
        cluster.writer.in_transactions(shown(range(200)))
        cluster.wait_for("accepted", 200)
        cluster.wait_until_read()
        ends = cluster.writer.ends()
        assert sum(ends.values()) > 220
        # Longer than what a worker that waits in vain is given.
        time.sleep(5)
        cluster.worker.check()
    assert (cluster.count("gap"), cluster.count("duplicate_impression")) == (0, 0)
    # Read back, the log has neither.
    found = read_log(cluster.settings.kafka, {tp: end - 1 for tp, end in ends.items() if end})
    assert sorted(r.value for r in found) == sorted(r.value for r in cluster.writer.records)


def test_an_open_transaction_is_neither_counted_nor_lag(cluster: Cluster) -> None:
    producer = Producer({"bootstrap.servers": cluster.settings.kafka.url, "transactional.id": "open"})
    producer.init_transactions(20)
    with cluster.worker:
        cluster.writer.plain(shown(range(10)))
        cluster.wait_for("accepted", 10)
        producer.begin_transaction()
        for entry in shown(range(10, 15)):
            producer.produce(cluster.settings.kafka.impressions, entry.value, entry.key, entry.partition)
        producer.flush()
        time.sleep(5)
        cluster.worker.check()
        assert (cluster.count("accepted"), cluster.lag()) == (10, 0)
        producer.commit_transaction(20)
        cluster.wait_for("accepted", 15)


def test_uncommitted_records_are_read_if_that_is_asked_for(cluster: Cluster) -> None:
    kafka = msgspec.structs.replace(cluster.settings.kafka, isolation="read_uncommitted")
    cluster.worker = Role("worker", msgspec.structs.replace(cluster.settings, kafka=kafka), cluster.worker.log.parent)
    producer = Producer({"bootstrap.servers": kafka.url, "transactional.id": "aborted"})
    producer.init_transactions(20)
    with cluster.worker:
        producer.begin_transaction()
        for entry in shown(range(5)):
            producer.produce(kafka.impressions, entry.value, entry.key, entry.partition)
        producer.flush()
        cluster.wait_for("accepted", 5)
        producer.abort_transaction(20)
        cluster.wait_until_read()


def test_every_codec_is_read(cluster: Cluster) -> None:
    with cluster.worker:
        for n, codec in enumerate(CODECS):
            cluster.writer.plain(shown(range(1000 * n, 1000 * n + 500)), codec)
            cluster.wait_for("accepted", 500 * (n + 1))
    ends = {tp: end - 1 for tp, end in cluster.writer.ends().items() if end}
    assert sum(1 for _ in read_log(cluster.settings.kafka, ends)) == 500 * len(CODECS)


@pytest.mark.parametrize("codec", ["zstd", *(pytest.param(codec, marks=pytest.mark.soak) for codec in CODECS[1:4])])
def test_what_is_written_here_is_compressed_as_asked_for(cluster: Cluster, codec: str) -> None:
    kafka = msgspec.structs.replace(cluster.settings.kafka, compression=codec)
    cluster.worker = Role("worker", msgspec.structs.replace(cluster.settings, kafka=kafka), cluster.worker.log.parent)
    with cluster.worker:
        producer = ReplayProducer(kafka, PaceSettings())
        producer.write([*shown(range(300)), LogEntry(0, 0, b"u", b"no event")])
        producer.close()
        cluster.wait_for("accepted", 300)
        cluster.wait_for("malformed", 1)
    consumer = Consumer({"bootstrap.servers": kafka.url, "group.id": codec, "auto.offset.reset": "earliest"})
    consumer.subscribe([kafka.dead_letter])
    letter = consumer.poll(20)
    consumer.close()
    assert letter is not None
    assert letter.value() == b"no event"


@BOTH_WAYS
def test_what_retention_took_while_nobody_read_is_counted_once_and_reading_goes_on(cluster: Cluster) -> None:
    with cluster.worker:
        cluster.writer.plain(shown(range(40)))
        cluster.wait_until_read()
    lost = cluster.writer.doomed(shown(range(100, 130)))
    assert lost == 30
    with cluster.worker:
        cluster.wait_for("gap", 30)
        cluster.wait_until_read()
        time.sleep(5)
        cluster.worker.kill()
        cluster.worker.start()
        cluster.writer.plain(shown(range(40, 60)))
        cluster.wait_for("accepted", 60)
    assert cluster.count("gap") == 30


def test_a_compacted_topic_has_no_gaps(settings: Settings, apache_kafka: str, tmp_path: Path) -> None:
    """A topic that somebody made with the wrong policy: what compaction leaves is read, what it took is not lost."""
    admin = AdminClient({"bootstrap.servers": apache_kafka})
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"}
    config |= {"max.compaction.lag.ms": "200"}
    topic = NewTopic(settings.kafka.impressions, PARTITIONS, 1, config=config)
    for done in admin.create_topics([topic]).values():
        done.result(20)
    cluster = Cluster(settings, apache_kafka, tmp_path)
    for n in range(4):
        cluster.writer.plain(shown(range(100 * n, 100 * n + 100)))
        time.sleep(0.5)
    with cluster.worker:
        cluster.wait_until_read()
        assert cluster.count("gap") == 0
        cluster.writer.plain(shown(range(400, 450)))
        cluster.wait_until_read()
    assert cluster.count("gap") == 0
    assert cluster.count("accepted") <= 450


def test_a_log_that_lost_its_newest_records_is_gone_on_with_at_its_end(cluster: Cluster) -> None:
    """As after an unclean leader election: the fence is ahead of what the broker has."""
    with cluster.worker:
        cluster.writer.plain(shown(range(40)))
        cluster.wait_until_read()
    topic = cluster.settings.kafka.impressions
    for p in range(PARTITIONS):
        cluster.store.client.hincrby(cluster.store.keys.fence(p), f"offset:{topic}", 7)
    with cluster.worker:
        wait_until(lambda: cluster.count("cut") == 7 * PARTITIONS, "the end to be found")
        cluster.writer.plain(shown(range(40, 60)))
        cluster.wait_for("accepted", 60)
    assert "unclean leader election" in cluster.worker.log.read_text()


@pytest.mark.parametrize("way", ["count", "reroute", "refuse"])
def test_records_in_another_partition_than_their_users(cluster: Cluster, way: str) -> None:
    events = msgspec.structs.replace(cluster.settings.events, misplaced=way)
    settings = msgspec.structs.replace(cluster.settings, events=events)
    cluster.worker = Role("worker", settings, cluster.worker.log.parent)
    with cluster.worker:
        cluster.writer.plain(shown(range(30)))
        cluster.wait_for("accepted", 30)
        cluster.writer.plain(shown(range(30, 80), user="stray", misplaced=True))
        cluster.wait_for("misplaced", 50)
        home = partition_of("stray", PARTITIONS)
        if way == "refuse":
            cluster.wait_for("malformed", 50)
            counted = [0, 0]
        else:
            cluster.wait_for("accepted", 80)
            counted = [50, 0] if way == "reroute" else [0, 50]
        assert [cluster.store.read_user(p, "stray").counts[0] for p in (home, 1 - home)] == counted
    assert cluster.count("rerouted") == (50 if way == "reroute" else 0)


def test_a_worker_ends_soon_though_the_broker_is_away(
    settings: Settings, own_kafka: ApacheKafka, tmp_path: Path
) -> None:
    cluster = Cluster(settings, own_kafka.url, tmp_path)
    with cluster.worker:
        cluster.writer.plain(shown(range(20)))
        cluster.wait_for("accepted", 20)
        own_kafka.kill()
        time.sleep(5)
        lines = len(cluster.worker.log.read_text().splitlines())
        started = time.monotonic()
        assert cluster.worker._process is not None
        cluster.worker._process.send_signal(signal.SIGTERM)
        wait_until(lambda: cluster.worker.status is not None, "the worker to end")
        assert time.monotonic() - started < 10
        assert cluster.worker.status == 0
        # What is away is told, and not many times a second.
        assert 0 < lines < 40
