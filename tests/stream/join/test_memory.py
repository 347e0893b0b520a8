"""What a worker keeps in memory is what Redis has, whatever becomes of either."""

import pytest
import redis
from support.fed import LIFE_S, T0, Fed, short_lived

from learner.config import FieldSettings
from state_store.config import JoinSettings, RedisSettings
from state_store.records import Call, Outcome, Span
from stream.events import Feedback, Heartbeat, Impression
from stream.ingest.stage import RollbackError
from stream.join.join import CompiledJoin, ContendedError
from stream.join.kernels.samples import most_samples


@pytest.fixture
def fed(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...], join: JoinSettings
) -> Fed:
    return Fed(client, short_lived(redis_settings), join, fields, ("like",))


def shown(n: int, user: str = "u") -> Impression:
    return Impression(imp_id=str(n), user_id=user, item_id="i", ts=T0 + n)


def liked(n: int) -> Feedback:
    return Feedback(imp_id=str(n), user_id="u", item_id="i", action="like", ts=T0 + n + 1)


def impressions_of(fed: Fed) -> tuple[int, ...]:
    return fed.store.read_user(0, "u").counts


def test_what_redis_evicted_is_written_again_with_a_life(fed: Fed, client: redis.Redis) -> None:
    """A Redis that is full may drop users and items; of those in memory nothing is lost."""
    fed.batch(0, [shown(0), shown(1)])
    fed.batch(1, [liked(0)])
    keys = [fed.store.keys.user(0, "u"), fed.store.keys.item(0, "i")]
    client.delete(*keys)
    fed.batch(0, [shown(2)])
    # Only what changed is there; the next call knows.
    assert [client.ttl(key) for key in keys] == [-1, -1]
    fed.batch(0, [shown(3, "another")])
    # Once is enough.
    assert fed.ingest._join._partitions[0].to_mend == []
    assert impressions_of(fed) == (3, 1)
    assert fed.store.read_items(0, ["i"])[0].counts == (4, 1)
    assert all(client.ttl(key) >= LIFE_S for key in keys)


def test_a_user_whose_life_has_ended_begins_anew(fed: Fed, client: redis.Redis) -> None:
    key = fed.store.keys.user(0, "u")
    fed.batch(0, [shown(0)])
    # As if a whole life had passed since: what is in memory says when it was given.
    known = fed.ingest._join._partitions[0]
    known.arrays.user_values_UX[:, fed.ingest._join._plan.user_renewed] -= 17
    known.now_in = ()
    client.delete(key)
    fed.batch(0, [shown(1)])
    assert impressions_of(fed) == (1, 0)
    assert client.ttl(key) >= LIFE_S


def test_norms_and_sums_are_those_of_now(fed: Fed) -> None:
    """The learner writes norms, other workers write sums: the next sample has them."""
    fed.batch(0, [shown(0)])
    fed.store.write_norms(3, {0: {"u": 0.5}}, {"i": 0.25}, 1)
    fed.batch(0, [shown(1)])
    sample = fed.samples()[-1]
    assert (sample.state.user_norm, sample.state.item_norm) == (0.5, 0.25)


def test_sums_of_ones_own_roll_up_need_not_be_read(fed: Fed, client: redis.Redis) -> None:
    fed.batch(0, [shown(0)])
    joined = fed.ingest._join
    fed.store.client.hincrby(fed.store.keys.item(1, "i"), "impressions", 41)
    fed.store.client.sadd(fed.store.keys.dirty(1), "i")
    assert fed.store.roll_up_items([0, 1], 2, joined.take_sums) == 1
    known = joined._partitions[0].arrays.items_I["known"]
    before = client.info("commandstats")["cmdstat_hmget"]["calls"]
    fed.batch(0, [shown(1)])
    assert known[0] == 2
    assert fed.samples()[-1].state.item_counts == [42, 0]
    # The fence, and the impression that might be there already; no item, no user.
    assert client.info("commandstats")["cmdstat_hmget"]["calls"] - before == 3


@pytest.mark.parametrize("more", range(-2, 10))
def test_what_is_due_is_handled_whatever_room_there_is_for_samples(fed: Fed, more: int) -> None:
    """A call's limit may be reached a few samples before their room is, or behind it."""
    fed.batch(0, [shown(n, f"u{n % 9}") for n in range(300)])
    joined, room = fed.ingest._join, 200
    arrays = joined._partitions[0].arrays
    narrow = {name: getattr(arrays, name)[:room].copy() for name in ("samples_E", "sample_values_EA")}
    joined._partitions[0].arrays = arrays._replace(**narrow)
    joined._plan.release_limit = room - most_samples(1) + more
    fed.feed(Heartbeat(ts=T0 + 10_000))
    assert fed.expected().counts["negative"] == 300


def test_a_partition_that_has_another_owner_is_left_to_it(fed: Fed) -> None:
    fed.batch(0, [shown(0)])
    epoch = fed.ingest.epochs[0]
    fed.store.open_epoch(0)
    joined = CompiledJoin(fed.store)
    applied = joined.apply_call(Call(0, "impressions", Span(1, 1), epoch, [(3, 1, T0)]))
    assert applied.outcome is Outcome.ZOMBIE
    assert applied.epoch == epoch + 1


def test_something_else_that_writes_all_the_time_is_named(
    fed: Fed, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed.batch(0, [shown(0)])
    joined = fed.ingest._join
    write = joined._writer.write

    def write_after_another(work: object) -> object:
        client.hincrby(fed.store.keys.fence(0), "seq", 1)
        return write(work)

    monkeypatch.setattr(joined._writer, "write", write_after_another)
    with pytest.raises(ContendedError, match="edited by hand"):
        fed.batch(0, [shown(1)])


def test_a_batch_that_ends_while_fences_are_read_is_no_rollback(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread of the worker applies it; a fence that lies before what was applied then is one."""
    fed.batch(0, [shown(0)])
    read = fed.store.fence_offsets

    def read_and_apply(partitions: list[int]) -> dict[int, dict[str, int]]:
        found = read(partitions)
        fed.batch(0, [shown(1)])
        return found

    monkeypatch.setattr(fed.store, "fence_offsets", read_and_apply)
    fed.ingest.check_state([0])
    monkeypatch.undo()
    fed.store.cut_log(0, fed.ingest.epochs[0], "impressions", 1)
    with pytest.raises(RollbackError, match="1 was applied"):
        fed.ingest.check_state([0])
