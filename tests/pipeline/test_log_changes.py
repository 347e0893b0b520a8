"""Topics that change under a worker: made anew, widened, cut by retention."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from state_store.client import connect
from state_store.states import StateStore
from stream.checks.finding import Level
from stream.command.doctor import examine
from stream.command.roles import Role, wait_until
from stream.events import Impression, encode_event
from stream.ingest.ending import EXIT_FAILED
from stream.kafka.topics import admin, ensure_topics
from stream.partitioning import partition_of
from stream.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

NUM = 50


class Shop:
    """One user's impressions on Apache Kafka, and the state that they lead to."""

    def __init__(self, settings: Settings, kafka: str) -> None:
        self.live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=kafka))
        self.topic = self.live.kafka.impressions
        self.partition = partition_of("u", self.live.kafka.partitions)
        self.store = StateStore(
            connect(settings.redis), settings.redis, settings.join, settings.actions, self.live.topics
        )
        self._num = 0
        ensure_topics(self.live.kafka)

    def write(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.live.kafka.url)
        for n in range(self._num, self._num + NUM):
            shown = Impression(imp_id=f"{n}", user_id="u", item_id="i", ts=1_700_000_000_000 + n)
            producer.send(self.topic, key=b"u", value=encode_event(shown), partition=self.partition)
        self._num += NUM
        producer.flush()
        producer.close()

    def counted(self) -> int:
        return self.store.read_user(self.partition, "u").counts[0]

    def change(self, how: Callable[[KafkaAdminClient], object]) -> None:
        client = admin(self.live.kafka)
        how(client)
        client.close()


@pytest.fixture
def shop(settings: Settings, apache_kafka: str) -> Shop:
    return Shop(settings, apache_kafka)


def ended_by_itself(worker: Role) -> str:
    wait_until(lambda: worker.status is not None, "the worker to end")
    assert worker.status == EXIT_FAILED
    return worker.log.read_text()


def test_a_topic_made_anew_while_a_worker_runs_ends_it_with_the_command_that_mends_it(
    shop: Shop, tmp_path: Path
) -> None:
    shop.write()
    with Role("worker", shop.live, tmp_path) as worker:
        wait_until(lambda: shop.counted() == NUM, "the first log to be counted", [worker])
        shop.change(lambda client: client.delete_topics([shop.topic]))
        wait_until(lambda: shop.topic in ensure_topics(shop.live.kafka), "the topic to be made anew")
        shop.write()
        said = ended_by_itself(worker)
    assert shop.topic in said
    assert "coldstream topics --new-log" in said
    assert shop.counted() == NUM


def test_partitions_added_to_a_live_topic_are_refused(shop: Shop, tmp_path: Path) -> None:
    shop.write()
    with Role("worker", shop.live, tmp_path) as worker:
        wait_until(lambda: shop.counted() == NUM, "the log to be counted", [worker])
        shop.change(lambda client: client.create_partitions({shop.topic: 5}))
        said = ended_by_itself(worker)
        assert "has 5 partitions, kafka.partitions is 2" in said
        worker.start()
        assert "two histories" in ended_by_itself_at_start(worker)
    assert shop.counted() == NUM


def ended_by_itself_at_start(worker: Role) -> str:
    """A command that is refused ends with status 1."""
    wait_until(lambda: worker.status is not None, "the worker to end")
    assert worker.status == 1
    return worker.log.read_text()


@pytest.mark.parametrize("read_before", [True, False])
def test_records_that_retention_removed_unread_are_a_gap_with_its_size(
    shop: Shop, read_before: bool, tmp_path: Path
) -> None:
    """Also if nothing had been read yet: the fence was put before the log's first record when a worker was assigned."""
    if read_before:
        shop.write()
    with Role("worker", shop.live, tmp_path) as worker:
        seen = NUM * read_before
        begun = lambda: shop.store.client.hexists(shop.store.keys.fence(shop.partition), f"offset:{shop.topic}")  # noqa: E731
        wait_until(lambda: begun() and shop.counted() == seen, "the worker to begin", [worker])
    shop.write()
    shop.change(lambda client: client.delete_records({TopicPartition(shop.topic, shop.partition): seen + 20}))
    with Role("worker", shop.live, tmp_path) as worker:
        wait_until(lambda: shop.counted() == seen + NUM - 20, "the rest to be counted", [worker])
    assert shop.store.fence_counts([shop.partition])["gap"] == 20
    gap = next(finding for finding in examine(shop.live) if finding.subject == "gaps")
    assert gap.level is Level.DEGRADED
    assert "20 records" in gap.detail


def test_what_retention_removed_before_a_pipeline_began_is_none_of_its_gaps(shop: Shop, tmp_path: Path) -> None:
    shop.write()
    shop.change(lambda client: client.delete_records({TopicPartition(shop.topic, shop.partition): 30}))
    with Role("worker", shop.live, tmp_path) as worker:
        wait_until(lambda: shop.counted() == NUM - 30, "the rest to be counted", [worker])
    assert "gap" not in shop.store.fence_counts([shop.partition])
