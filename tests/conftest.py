"""Real servers for the tests: an embedded Redis, an embedded broker, and Apache Kafka where there is one."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis
import torch

from learner.config import FieldSettings
from state_store.child import ChildServer, free_port
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.embedded import EmbeddedRedis
from state_store.states import StateStore
from stream.broker import EmbeddedBroker
from stream.settings import Settings, load_settings

# Two processes that spin on two cores are 20 times slower, not twice.
torch.set_num_threads(1)

_numbers = count()
TOPICS = ("impressions", "feedback")


class ApacheKafka(ChildServer):
    """One KRaft node from a Kafka distribution, on free ports, with a temporary log folder."""

    name = "kafka"

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self._folder = tempfile.TemporaryDirectory(prefix="coldstream-kafka-")
        self._environment = {**os.environ, "KAFKA_HEAP_OPTS": "-Xmx512m", "LOG_DIR": f"{self._folder.name}/app-logs"}

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        controller = free_port()
        properties = Path(self._folder.name) / "server.properties"
        properties.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            f"log.dirs={self._folder.name}/logs\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )
        scripts = self._home / "bin"
        storage = str(scripts / "kafka-storage.sh")
        cluster = subprocess.run(
            [storage, "random-uuid"], capture_output=True, text=True, check=True, env=self._environment
        )
        subprocess.run(
            [storage, "format", "--standalone", "-t", cluster.stdout.strip().splitlines()[-1], "-c", str(properties)],
            capture_output=True,
            check=True,
            env=self._environment,
        )
        return [str(scripts / "kafka-server-start.sh"), str(properties)]

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def kafka_home() -> Path | None:
    """Where a Kafka distribution is: KAFKA_HOME, or the shared one beside the checkout."""
    given = os.environ.get("KAFKA_HOME")
    for home in (Path(given) if given else None, Path(__file__).parents[2] / "shared" / "kafka"):
        if home is not None and (home / "bin" / "kafka-server-start.sh").is_file():
            return home
    return None


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_settings(redis_server: EmbeddedRedis) -> RedisSettings:
    """A prefix of its own, so that tests do not see each other."""
    return RedisSettings(url=redis_server.url, prefix=f"t{next(_numbers)}")


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_server.port) as connection:
        yield connection


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    with EmbeddedBroker() as server:
        yield server.url


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[str]:
    home = kafka_home()
    if home is None:
        pytest.skip("no Apache Kafka: KAFKA_HOME is not set and ../shared/kafka is not there")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java for Apache Kafka: neither java on the PATH nor JAVA_HOME")
    with ApacheKafka(home) as server:
        yield server.url


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> str:
    """Each kind of broker in turn."""
    url: str = request.getfixturevalue("embedded_broker" if request.param == "embedded" else "apache_kafka")
    return url


@pytest.fixture
def join() -> JoinSettings:
    return JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, max_jump_ms=10_000)


@pytest.fixture
def actions() -> ActionSettings:
    return ActionSettings()


@pytest.fixture
def store(
    client: redis.Redis, redis_settings: RedisSettings, join: JoinSettings, actions: ActionSettings
) -> StateStore:
    return StateStore(client, redis_settings, join, actions, TOPICS)


@pytest.fixture
def settings(redis_settings: RedisSettings) -> Settings:
    """Small and fast, on this test's own prefix and topics."""
    unique = redis_settings.prefix
    return load_settings(
        environment={},
        overrides=[
            f"redis.url={redis_settings.url!r}",
            f"redis.prefix={unique}",
            f"kafka.group={unique}",
            f"kafka.impressions={unique}-impressions",
            f"kafka.feedback={unique}-feedback",
            f"kafka.dead_letter={unique}-dead",
            f"kafka.weights={unique}-weights",
            "kafka.partitions=2",
            "publish.interval_s=0.5",
            "publish.checkpoint_s=1.0",
        ],
    )


FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("price", "item", "numeric"),
)


@pytest.fixture
def fields() -> tuple[FieldSettings, ...]:
    return FIELDS
