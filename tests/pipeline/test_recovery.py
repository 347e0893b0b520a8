"""Servers that die and come back under load."""

import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import redis
from kafka import KafkaProducer
from support.load import Load
from support.small_log import small_log, with_tasks
from support.ways import read_both_ways

from simulators.apache_kafka import ApacheKafka
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.events import Impression, encode_event
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics, log_ids
from stream.partitioning import partition_of
from stream.process.store import open_store
from stream.settings import Settings

pytestmark = pytest.mark.slow


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.kafka
def test_a_broker_that_is_killed_and_restarted_loses_and_doubles_nothing(
    settings: Settings, own_kafka: ApacheKafka, tmp_path: Path
) -> None:
    live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=own_kafka.url))
    ensure_topics(live.kafka)
    load = Load(live, 10_000, seed=2, hold_at=6000)
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        wait_until(lambda: load.applied() > 3000, "the replay to get going", [worker, learner])
        # The producer has much to write yet when the broker dies.
        load.go_on()
        own_kafka.kill()
        # Long enough for both roles to find it gone.
        time.sleep(1)
        own_kafka.start()
        ends = load.finish(worker, learner)
    load.check(ends, tmp_path)


@pytest.mark.parametrize(
    ("lost", "num_tasks"),
    [
        ("the last second", 3),
        ("everything", 1),
        pytest.param("the last second", 1, marks=pytest.mark.soak),
        pytest.param("everything", 3, marks=pytest.mark.soak),
    ],
)
def test_a_redis_restored_from_an_older_snapshot_heals_by_replay(
    lost: str, num_tasks: int, settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    """The snapshot is older than the learner's cursor, too: nothing is learned twice."""
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(tmp_path / "redis", ("--save", "")) as server:
        live = msgspec.structs.replace(
            settings if num_tasks == 1 else with_tasks(settings),
            kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker),
            redis=msgspec.structs.replace(settings.redis, url=server.url),
        )
        ensure_topics(live.kafka)
        log = None if num_tasks == 1 else small_log(14_000)
        load = Load(live, 14_000, seed=4, hold_at=8000, log=log)
        dump = tmp_path / "redis" / "dump.rdb"
        with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
            load.start()
            wait_until(lambda: load.learned() > 2000, "the replay to get going", [worker, learner])
            if lost == "the last second":
                load.client.save()
            learned, applied = load.learned(), load.applied()
            load.go_on()
            wait_until(
                lambda: load.learned() > learned + 2000 and load.applied() > applied + 3000,
                "the replay to go on behind the snapshot",
                [worker, learner],
            )
            server.kill()
            assert dump.exists() is (lost == "the last second")
            # Long enough for both roles to find it gone.
            time.sleep(1)
            server.start()
            wait_until(lambda: answers(load.client), "Redis to come back", [worker, learner])
            ends = load.finish(worker, learner)
        for role in ("worker", "learner"):
            assert "restored from an older snapshot" in (tmp_path / f"{role}.log").read_text()
        load.check(ends, tmp_path)


@read_both_ways(plain_on="embedded")
def test_workers_that_come_and_go_lose_and_double_nothing(settings: Settings, broker: str, tmp_path: Path) -> None:
    live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=broker, partitions=4))
    ensure_topics(live.kafka)
    load = Load(live, 11_000, seed=5)
    with Role("learner", live, tmp_path / "learner") as learner, ExitStack() as stack:
        workers = [stack.enter_context(Role("worker", live, tmp_path / f"worker{n}")) for n in range(2)]
        load.start()
        wait_until(lambda: load.applied() > 1000, "the replay to go on", [learner])
        workers.append(stack.enter_context(Role("worker", live, tmp_path / "worker2")))
        wait_until(lambda: load.applied() > 4500, "the replay to go on", [learner])
        workers[0].kill()
        workers[1].stop()
        wait_until(lambda: load.applied() > 8000, "the replay to go on", [learner])
        workers[0].start()
        ends = load.finish(learner)
    load.check(ends, tmp_path / "learner")


def test_another_log_is_recognised_and_never_taken_for_duplicates(settings: Settings, tmp_path: Path) -> None:
    """A broker in memory is restarted with the old Redis: offsets start over."""

    def write(live: Settings, name: str) -> None:
        ensure_topics(live.kafka)
        producer = KafkaProducer(bootstrap_servers=live.kafka.url)
        for n in range(50):
            shown = Impression(imp_id=f"{name}{n}", user_id="u", item_id="i", ts=1_700_000_000_000 + n)
            producer.send(live.kafka.impressions, key=b"u", value=encode_event(shown))
        producer.flush()
        producer.close()

    partition = partition_of("u", settings.kafka.partitions)
    client = connect(settings.redis)
    store = open_store(settings, client)
    for name, total in (("a", 50), ("b", 100)):
        with EmbeddedBroker() as broker:
            live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=broker.url))
            write(live, name)
            if name == "b":
                refused = Role("worker", live, tmp_path / "refused").start()
                wait_until(lambda role=refused: not role.is_running, "the worker to refuse")
                said = refused.log.read_text()
                assert "Traceback" not in said
                assert live.kafka.impressions in said
                assert "coldstream topics --new-log" in said
                assert store.read_user(partition, "u").counts[0] == 50
                store.open_log(log_ids(ensure_topics(live.kafka), live), live.kafka.partitions)
            with Role("worker", live, tmp_path / name) as worker:
                done = lambda total=total: store.read_user(partition, "u").counts[0] == total  # noqa: E731
                wait_until(done, "all impressions to be counted", [worker])
    client.close()


def test_without_a_learner_kafka_holds_the_backlog_and_redis_does_not_grow(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    limit = 500
    live = msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker),
        worker=msgspec.structs.replace(settings.worker, outbox_high_water=limit),
    )
    ensure_topics(live.kafka)
    load = Load(live, 15_000, seed=6, events_per_s=6000)
    load.start()
    with Role("worker", live, tmp_path) as worker:
        full = lambda: max(load.outbox.sequences().values()) > limit  # noqa: E731 - a condition
        wait_until(full, "the outbox to fill", [worker])
        wait_until(lambda: load.producer.num_sent > 14_000, "more events than may be applied", [worker])
        time.sleep(1)
        held = load.outbox.sequences()
        # A batch is applied whole, so the mark may be passed by what one batch releases.
        assert all(sequence < limit + 2 * live.worker.batch for sequence in held.values())
        assert load.applied() < load.producer.num_sent / 2
        with Role("learner", live, tmp_path) as learner:
            ends = load.finish(worker, learner)
    load.check(ends, tmp_path)
