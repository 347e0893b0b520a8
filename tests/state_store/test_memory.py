"""What takes Redis' memory is told by kind; from some of the keys nearly what all of them say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.fed import T0, Fed
from support.redis_cluster import EmbeddedRedisCluster

from learner.config import FieldSettings, HistorySettings
from state_store.client import connect
from state_store.config import JoinSettings, RedisSettings
from state_store.embedded.redis import EmbeddedRedis
from state_store.memory.estimate import Estimator, masters
from state_store.memory.kinds import Kind
from stream.events import Feedback, Impression

_USERS, _ITEMS = 3000, 300
_HISTORY = HistorySettings("liked", ("like",), length=20)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def own_client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as client:
        client.flushall()
        yield client


def fill(client: redis.Redis, url: str, fields: tuple[FieldSettings, ...], join: JoinSettings) -> Fed:
    """Users of whom every other one liked something; what they were shown last still waits."""
    fed = Fed(client, RedisSettings(url=url, prefix="m"), join, fields, ("like",), histories=[_HISTORY])
    for at in range(0, _USERS, 1000):
        shown = [
            Impression(imp_id=str(n), user_id=str(n), item_id=str(n % _ITEMS), ts=T0 + n) for n in range(at, at + 1000)
        ]
        fed.batch(0, shown)
        fed.batch(1, [Feedback(**said(impression)) for impression in shown[::2]])
    return fed


def said(impression: Impression) -> dict[str, object]:
    ids = {"imp_id": impression.imp_id, "user_id": impression.user_id, "item_id": impression.item_id}
    return {**ids, "action": "like", "ts": impression.ts + 1}


def test_what_is_estimated_is_nearly_what_all_keys_say(
    own_client: redis.Redis, server: EmbeddedRedis, fields: tuple[FieldSettings, ...], join: JoinSettings
) -> None:
    store = fill(own_client, server.url, fields, join).store
    own_client.set("somebody:else", "x" * 10_000)
    estimator = Estimator(own_client, "m", 1, store.histories.fields)
    whole, some = estimator.look(num_keys=100_000), estimator.look(num_keys=400, budget_s=60)
    exact, about = ({row.kind: row for row in found.kinds} for found in (whole, some))
    assert (whole.is_whole, some.is_whole, some.num_drawn) == (True, False, 400)
    counts = {kind: exact[kind].num_keys for kind in (Kind.USERS, Kind.HISTORIES, Kind.ITEMS, Kind.FOREIGN)}
    assert counts == {Kind.USERS: _USERS, Kind.HISTORIES: _USERS / 2, Kind.ITEMS: _ITEMS, Kind.FOREIGN: 1}
    assert exact.keys() >= {Kind.JOINS, Kind.OUTBOX, Kind.OTHER}
    users = [own_client.memory_usage(store.keys.user(0, str(n)), samples=0) for n in range(_USERS)]
    assert exact[Kind.USERS].num_bytes + exact[Kind.HISTORIES].num_bytes == sum(users)
    assert whole.user_bytes == sum(users) / _USERS
    # Five standard deviations of the share among 400.
    assert about[Kind.USERS].num_keys == pytest.approx(_USERS, rel=0.1)
    assert some.user_bytes == pytest.approx(whole.user_bytes, rel=0.2)
    assert about[Kind.JOINS] == exact[Kind.JOINS]
    assert sum(row.num_bytes for row in whole.kinds) < own_client.info("memory")["used_memory"]


def test_where_nothing_is_kept_nothing_is_told(own_client: redis.Redis) -> None:
    found = Estimator(own_client, "m", 4).look()
    assert (found.kinds, found.user_bytes, found.item_bytes, found.is_whole) == ([], None, None, True)


@pytest.mark.slow
def test_a_cluster_s_masters_are_summed_up(
    tmp_path: Path, fields: tuple[FieldSettings, ...], join: JoinSettings
) -> None:
    with EmbeddedRedisCluster(tmp_path) as cluster:
        client = connect(RedisSettings(url=cluster.url))
        fill(client, cluster.url, fields, join)
        client.set("m:id", "x")
        assert len(masters(client)) == 3
        found = Estimator(client, "m", 1).look(num_keys=100_000)
        by_kind = {row.kind: row.num_keys for row in found.kinds}
        assert (by_kind[Kind.USERS], by_kind[Kind.ITEMS]) == (_USERS, _ITEMS)
        assert found.num_drawn == sum(server.dbsize() for server in masters(client))
        # One master has one partition's keys, the others next to none.
        some = Estimator(client, "m", 1).look(num_keys=400, budget_s=60)
        assert not some.is_whole
        assert {row.kind: row.num_keys for row in some.kinds}[Kind.USERS] == pytest.approx(_USERS, rel=0.1)
        client.close()
