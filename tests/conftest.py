"""Real servers for the tests: an embedded Redis, an embedded broker, and Apache Kafka where there is one."""

from collections.abc import Iterator
from itertools import count

import pytest
import redis
import torch

from learner.config import FieldSettings
from simulators.apache_kafka import ApacheKafka, find_kafka
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.embedded.child import NoServerError
from state_store.embedded.redis import EmbeddedRedis
from state_store.states import StateStore
from stream.kafka.broker import EmbeddedBroker
from stream.settings import Settings, load_settings

# Two processes that spin on two cores are 20 times slower, not twice.
torch.set_num_threads(1)

_numbers = count()
TOPICS = ("impressions", "feedback")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--consumer", default="coalescing", help="worker.consumer of the tests that do not name one")


@pytest.fixture(params=["short", pytest.param("long", marks=[pytest.mark.slow, pytest.mark.soak])])
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is the long version: more events, more deaths."""
    return bool(request.param == "long")


@pytest.fixture
def consumer(request: pytest.FixtureRequest) -> str:
    """How workers read; tests may parametrise it."""
    return str(request.config.getoption("--consumer"))


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


def start_kafka() -> ApacheKafka:
    """A broker, or the reason why there is none."""
    try:
        return ApacheKafka(find_kafka())
    except NoServerError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[str]:
    with start_kafka() as server:
        yield server.url


@pytest.fixture
def own_kafka() -> Iterator[ApacheKafka]:
    """A broker that the test may kill."""
    with start_kafka() as server:
        yield server


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> str:
    """Each kind of broker in turn."""
    url: str = request.getfixturevalue("embedded_broker" if request.param == "embedded" else "apache_kafka")
    return url


@pytest.fixture
def join() -> JoinSettings:
    return JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1)


@pytest.fixture
def actions() -> ActionSettings:
    return ActionSettings()


@pytest.fixture
def store(
    client: redis.Redis, redis_settings: RedisSettings, join: JoinSettings, actions: ActionSettings
) -> StateStore:
    return StateStore(client, redis_settings, join, actions, TOPICS)


@pytest.fixture
def settings(redis_settings: RedisSettings, consumer: str) -> Settings:
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
            # Any free one: other tests may run at the same time.
            "monitor.port=0",
            "serving.port=0",
            # Who tests it turns it on.
            "serving.enabled=false",
            f"worker.consumer={consumer}",
            # A worker that is killed is missed sooner, and the embedded broker answers a join after half of it.
            "worker.session_timeout_s=2",
            # As with a recorded log: one clock stamped it, and it does not go on while nobody writes.
            "join.time_users=1",
            "worker.idle_after_ms=0",
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
