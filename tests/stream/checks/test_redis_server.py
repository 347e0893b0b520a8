"""What is said of a Redis that the roles cannot work with, or only for a while; each by its real cause."""

from collections.abc import Iterator

import pytest
import redis

from state_store.config import RedisSettings
from state_store.embedded.redis import EmbeddedRedis
from stream.checks.finding import Finding, Level
from stream.checks.redis_server import check_redis
from stream.settings import Settings

RIGHTS = "on >pw ~cs:* &* +@all -@dangerous -@admin"
_BALLAST = 20_000_000
"""Bytes."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


def found(client: redis.Redis, url: str) -> dict[str, Finding]:
    return {f.subject: f for f in check_redis(Settings(redis=RedisSettings(url=url)), client)}


def test_one_that_is_well(server: EmbeddedRedis) -> None:
    said = found(redis.Redis(port=server.port), server.url)
    assert {f.level for f in said.values()} == {Level.OK}
    assert set(said) == {"redis", "redis writes", "redis memory", "redis eviction", "redis rights"}


def test_a_replica_takes_no_writes(server: EmbeddedRedis) -> None:
    client = redis.Redis(port=server.port)
    client.slaveof("127.0.0.1", 1)
    try:
        said = found(client, server.url)["redis writes"]
    finally:
        client.slaveof()
    assert (said.level, "point redis.url to the primary" in said.detail) == (Level.BAD, True)


@pytest.mark.parametrize(("limit", "level"), [(0.9, Level.BAD), (1.08, Level.DEGRADED), (3, Level.OK)])
def test_memory_that_is_full_or_nearly(server: EmbeddedRedis, limit: float, level: Level) -> None:
    client = redis.Redis(port=server.port)
    # Beside it the buffers of clients that come and go are nothing.
    client.setrange("ballast", _BALLAST, "x")
    used = client.info("memory")["used_memory"]
    client.config_set("maxmemory", round(limit * used))
    try:
        said = found(client, server.url)
    finally:
        client.config_set("maxmemory", 0)
        client.delete("ballast")
    assert said["redis memory"].level is level
    assert said["redis writes"].level is (Level.BAD if level is Level.BAD else Level.OK)


def test_eviction_would_drop_counters(server: EmbeddedRedis) -> None:
    client = redis.Redis(port=server.port)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert found(client, server.url)["redis eviction"].level is Level.BAD
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def limited(server: EmbeddedRedis, rights: str) -> redis.Redis:
    redis.Redis(port=server.port).execute_command("ACL", "SETUSER", "shop", "reset", *rights.split())
    return redis.Redis(port=server.port, username="shop", password="pw")


def test_a_user_who_may_not_ask_for_info_is_enough(server: EmbeddedRedis) -> None:
    said = found(limited(server, RIGHTS), server.url)
    assert {f.level for f in said.values()} == {Level.OK}


def test_the_right_that_is_missing_is_named(server: EmbeddedRedis) -> None:
    said = found(limited(server, f"{RIGHTS} -xtrim -evalsha"), server.url)["redis rights"]
    assert said.level is Level.BAD
    assert "XTRIM" in said.detail
    assert "EVALSHA" in said.detail
    assert "SET," not in said.detail


def test_keys_that_may_not_be_touched_are_named(server: EmbeddedRedis) -> None:
    said = found(limited(server, RIGHTS.replace("~cs:*", "~other:*")), server.url)
    assert said["redis rights"].level is Level.BAD
    assert "key" in said["redis rights"].detail
