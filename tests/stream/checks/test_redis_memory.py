"""What is said of Redis' memory: the room that is left, what is lost to fragmentation, what takes the rest."""

import pytest
import redis

from state_store.embedded.redis import EmbeddedRedis
from state_store.records import Span
from stream.checks.finding import Level
from stream.checks.redis_memory import check_kinds, room
from stream.process.store import open_store
from stream.settings import Settings

MIB = 2**20


def test_of_a_cluster_the_fullest_master_is_told() -> None:
    masters = [{"used_memory": used * MIB, "maxmemory": 100 * MIB} for used in (10, 95, 20)]
    (found,) = room(masters)
    assert found.level is Level.DEGRADED
    assert "95.0 MiB of 100.0 MiB used, of the fullest on 3 masters" in found.detail
    (found,) = room([{"used_memory": used * MIB, "maxmemory": 0} for used in (10, 20)])
    assert (found.level, found.detail) == (Level.OK, "30.0 MiB used on 2 masters, no maxmemory")


@pytest.mark.parametrize(("used", "given", "is_told"), [(1000, 1800, True), (1000, 1300, False), (1, 6, False)])
def test_fragmentation_is_told_where_it_matters(used: int, given: int, is_told: bool) -> None:
    found = list(room([{"used_memory": used * MIB, "used_memory_rss": given * MIB}]))
    assert [f.subject for f in found[1:]] == (["redis fragmentation"] if is_told else [])


def test_kinds_are_told_with_what_a_user_takes(settings: Settings) -> None:
    # Its own, of whose keys all are looked at.
    with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
        check_what_is_told(settings, client)


def check_what_is_told(settings: Settings, client: redis.Redis) -> None:
    store = open_store(settings, client)
    (before,) = check_kinds(settings, client)
    assert "a user" not in before.detail
    client.hset(store.keys.user(0, "u"), mapping={"impressions": 1})
    assert store.apply(0, settings.kafka.impressions, Span(0, 0), store.open_epoch(0), ()).offset == 0
    (found,) = check_kinds(settings, client)
    size = client.memory_usage(store.keys.user(0, "u"))
    assert found.level is Level.OK
    assert f"users {size} bytes" in found.detail
    assert f"; a user takes {size} bytes" in found.detail
