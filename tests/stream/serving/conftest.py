"""A scorer as a process, on weights that the tests publish."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from support.serving import Http, Trained, with_serving

from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role
from stream.serving.address import serving_url
from stream.settings import Settings, load_settings


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis, request: pytest.FixtureRequest) -> Settings:
    """Of a scorer that the tests of a module share."""
    # Tests that go from one process to another may set a module up a second time: what the first left is not its.
    prefix = f"redis.prefix={request.module.__name__.rpartition('.')[2]}_{uuid4().hex[:8]}"
    starts = ["content_start.method=nearest", "content_start.every=100", "content_start.evidence=0.5"]
    own = [prefix, "kafka.partitions=2", "join.time_users=1", *starts]
    given = {"redis.url": redis_server.url}
    return with_serving(
        load_settings(environment={}, overrides=own, given=given), max_candidates=200, max_body_bytes=100_000
    )


@pytest.fixture(scope="module")
def trained(live: Settings, redis_server: EmbeddedRedis) -> Iterator[Trained]:
    """Weights of one version, and counts of two users."""
    with redis.Redis(port=redis_server.port) as client:
        made = Trained(live, client)
        made.publish(400, 1, now_ms=time.time_ns() // 1_000_000)
        made.count("u1", {"i1": 40, "i2": 3}, 12)
        made.count("u2", {}, 300)
        yield made


@pytest.fixture(scope="module")
def scorer(live: Settings, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with Role("serve", live, Path(tmp_path_factory.mktemp("serve"))):
        http = Http(serving_url(live.serving))
        http.wait()
        yield http
