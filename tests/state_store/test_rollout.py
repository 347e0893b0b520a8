"""The rollout: changed as one step, however many change it, and readable for people."""

import json
import threading

import pytest
import redis

from state_store.keys import Keys
from state_store.rollout import DamagedRolloutError, Decision, Rollout, RolloutStore


@pytest.fixture
def prefix(redis_settings) -> str:
    return redis_settings.prefix


def decision(n: int, version: int = 0) -> Decision:
    return Decision(n, "pin", version, f"why {n}", "test")


def test_changes_of_many_at_once_are_all_made(client: redis.Redis, prefix: str) -> None:
    def decide(by: int) -> None:
        store = RolloutStore(client, prefix)
        for n in range(20):
            store.update(lambda now, n=n: now.decide(decision(by * 20 + n)))

    threads = [threading.Thread(target=decide, args=(by,)) for by in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = RolloutStore(client, prefix).read()
    assert found.revision == 80
    assert sorted(d.time_ms for d in found.decisions) == list(range(80))


def test_a_change_sees_what_another_has_left_in_between(client: redis.Redis, prefix: str) -> None:
    ours, theirs = RolloutStore(client, prefix), RolloutStore(client, prefix)
    seen: list[int] = []

    def pin_the_next(now: Rollout) -> Rollout:
        if not seen:
            theirs.update(lambda other: other.decide(decision(1, 7), pinned=7))
        seen.append(now.pinned)
        return now.decide(decision(2, now.pinned + 1), pinned=now.pinned + 1)

    after = ours.update(pin_the_next)
    assert seen == [0, 7]
    assert (after.pinned, after.revision, after.why_pinned) == (8, 2, "why 2 (test)")
    assert theirs.read() == after


def test_what_changes_nothing_leaves_it_as_it_is(client: redis.Redis, prefix: str) -> None:
    store = RolloutStore(client, prefix)
    assert store.update(lambda now: now) == Rollout()
    assert client.get(Keys(prefix).rollout) is None

    def refuse(now: Rollout) -> Rollout:
        raise ValueError(now)

    with pytest.raises(ValueError, match="Rollout"):
        store.update(refuse)
    assert store.read() == Rollout()


def test_the_last_hundred_decisions_are_known(client: redis.Redis, prefix: str) -> None:
    store = RolloutStore(client, prefix)
    for n in range(120):
        store.update(lambda now, n=n: now.decide(decision(n), pinned=0, stable=n))
    assert [d.time_ms for d in store.read().decisions] == list(range(20, 120))
    assert store.read().protected == {119}


def test_people_can_read_it_and_what_they_spoil_is_named(client: redis.Redis, prefix: str) -> None:
    store = RolloutStore(client, prefix)
    store.update(lambda now: now.decide(Decision(1, "hold", 0, "prices are wrong", "anna"), hold="prices are wrong"))
    assert json.loads(client.get(Keys(prefix).rollout))["hold"] == "prices are wrong"
    client.set(Keys(prefix).rollout, '{"pinned": "seven"}')
    for use in (store.read, lambda: store.update(lambda now: now)):
        with pytest.raises(DamagedRolloutError, match=Keys(prefix).rollout):
            use()
