"""Users and items that are not seen for their life are forgotten; it is given anew once in a sixteenth of it."""

import pytest
import redis
from support.fed import LIFE_S, T0, Fed, short_lived

from learner.config import FieldSettings
from state_store.config import JoinSettings, RedisSettings
from stream.events import Impression


@pytest.fixture
def fed(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...], join: JoinSettings
) -> Fed:
    return Fed(client, short_lived(redis_settings), join, fields, ("like",))


def test_whoever_is_seen_lives_for_as_long_as_is_said(fed: Fed, client: redis.Redis) -> None:
    keys = [fed.store.keys.user(0, "u"), fed.store.keys.item(0, "i")]
    for n in range(3):
        fed.batch(0, [Impression(imp_id=str(n), user_id="u", item_id="i", ts=T0 + n)])
        assert all(LIFE_S <= client.ttl(key) <= LIFE_S * 17 // 16 for key in keys)
    # As it would be just before the next sixteenth: nothing need be written, and a life is left.
    for key in keys:
        client.expire(key, LIFE_S)
    fed.batch(0, [Impression(imp_id="3", user_id="u", item_id="i", ts=T0 + 3)])
    assert all(client.ttl(key) >= LIFE_S - 60 for key in keys)


def test_a_life_is_given_anew_in_the_next_sixteenth_and_where_a_former_version_gave_it(
    fed: Fed, client: redis.Redis
) -> None:
    keys = [fed.store.keys.user(0, "u"), fed.store.keys.item(0, "i")]
    fed.batch(0, [Impression(imp_id="0", user_id="u", item_id="i", ts=T0)])
    for n, before in enumerate((1, None), start=1):
        for key in keys:
            client.expire(key, 100)
            if before is None:
                client.hdel(key, "renewed")
            else:
                client.hset(key, "renewed", before)
        fed.taken_over()
        fed.batch(0, [Impression(imp_id=str(n), user_id="u", item_id="i", ts=T0 + n)])
        assert all(client.ttl(key) >= LIFE_S for key in keys)


def test_an_item_that_others_see_lives_in_every_partition(fed: Fed, client: redis.Redis) -> None:
    fed.batch(0, [Impression(imp_id="0", user_id="u", item_id="i", ts=T0)])
    assert fed.store.roll_up_items([0], 2) == 1
    elsewhere = fed.store.keys.item(1, "i")
    assert LIFE_S <= client.ttl(elsewhere) <= LIFE_S * 17 // 16
    client.expire(elsewhere, 100)
    client.hset(elsewhere, "renewed", 1)
    fed.batch(0, [Impression(imp_id="1", user_id="u", item_id="i", ts=T0 + 1)])
    assert fed.store.roll_up_items([0], 2) == 1
    assert client.ttl(elsewhere) >= LIFE_S
    assert fed.store.read_items(1, ["i"])[0].counts == (2, 0)
