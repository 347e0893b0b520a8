"""Whether records are joined in memory or in Redis, state and samples are the same to the byte."""

import random
from collections.abc import Sequence
from itertools import count

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.state import state_of

from learner.config import FieldSettings, HistorySettings
from learner.samples.layout import Layout
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.records import Reading, Span
from state_store.states import StateStore
from state_store.tasks import TaskSettings
from stream.events import Feedback, Heartbeat, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.join.join import CompiledJoin
from stream.process.store import kept_histories
from stream.sections import EventSettings, JoinedBy

T0, NOW = 10**12, 10**12 + 10**8
TOPICS = ("impressions", "feedback")
ACTIONS = ("like", "share", "play")
FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("genre", "item", "categorical"),
    FieldSettings("words", "item", "multi"),
)
HISTORIES = (
    HistorySettings("liked", ("like",), by="genre", length=3),
    HistorySettings("any", ("like", "share"), length=2),
)
TASKS = (
    TaskSettings("like", ("like",), main=True),
    TaskSettings("short", ("share",), window_ms=60),
    TaskSettings("long", ("play", "share"), window_ms=400, attribution_ms=1500),
)
MODES = {
    "window": {},
    "early": {"early_positives": True},
    "immediate": {"mode": "immediate"},
    "sampled": {"negative_rate": 0.5, "negative_rate_from": 2},
    "settled": {"settle_ms": 300, "as_served": False},
    "agreed": {"time_users": 3},
    "a few at a time": {"release_limit": 3, "settle_ms": 300},
}
_prefixes = count()


def small_log(seed: int, num: int) -> list[tuple[int, list[bytes]]]:
    """Batches of a topic each: impressions, feedback of all kinds, heartbeats, and some that are malformed."""
    rng = random.Random(seed)
    batches, shown, ts = [], list[tuple[str, str, str, int]](), T0
    for _ in range(num):
        topic, some = rng.randrange(2), list[bytes]()
        for _ in range(rng.choice([1, 2, 7, 30])):
            ts += rng.randrange(12)
            if rng.random() < 0.03:
                some.append(rng.choice([b"{", encode_event(Heartbeat(ts=ts))]))
            elif topic == 0:
                imp, user, item = f"m{rng.randrange(4 * num)}", f"u{rng.randrange(6)}", rng.choice(["ä", "b", "c", "d"])
                at = ts - rng.choice([0, 0, 0, 30, 80])
                features = {"genre": rng.choice("xyz"), "words": rng.sample(["a", "b", "c"], rng.randrange(3))}
                some.append(encode_event(Impression(imp_id=imp, user_id=user, item_id=item, ts=at, features=features)))
                shown.append((imp, user, item, at))
            else:
                known = shown[-40:] or [("m1", "u1", "b", ts)]
                imp, user, item, at = rng.choice([*known, (f"m{rng.randrange(4 * num)}", "u1", "b", ts)])
                user = rng.choice([user, user, "u5"])
                after, value = at + rng.choice([-60, 0, 5, 50, 90, 150, 500, 1200, 2000]), rng.choice([None, 2.0, 0.1])
                action = rng.choice(ACTIONS)
                some.append(
                    encode_event(
                        Feedback(imp_id=imp, user_id=user, item_id=item, action=action, ts=max(after, 1), value=value)
                    )
                )
        batches.append((topic, some))
    return [*batches, (0, [encode_event(Heartbeat(ts=ts + 700))]), (1, [encode_event(Heartbeat(ts=ts + 700))])]


class Side:
    """A partition's ingest."""

    def __init__(
        self,
        client: redis.Redis,
        settings: RedisSettings,
        join: JoinSettings,
        tasks: Sequence[TaskSettings],
        *,
        by: JoinedBy,
    ) -> None:
        self.prefix = f"{settings.prefix}-{next(_prefixes)}"
        actions = ActionSettings(ACTIONS, () if tasks else ("like", "share"))
        kept = kept_histories(Layout(FIELDS, ACTIONS, HISTORIES))
        own = msgspec.structs.replace(settings, prefix=self.prefix)
        self.store = StateStore(client, own, join, actions, TOPICS, tasks, kept)
        self._how = FIELDS, actions, EventSettings(), lambda dead: None
        self.take_over(by)

    def take_over(self, by: JoinedBy) -> None:
        """Somebody goes on, joining so."""
        self.ingest = Ingest(self.store, *self._how, histories=HISTORIES, join=by)
        self.ingest.assign(0)

    def feed(self, topic: int, first: int, values: list[bytes]) -> None:
        records = [LogRecord(first + n, value, NOW) for n, value in enumerate(values)]
        self.ingest.process(TOPICS[topic], 0, records, NOW, Span(first, first + len(values) - 1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tasks", [(), TASKS], ids=["one task", "three tasks"])
@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10**6), upheaval=st.sampled_from([0.0, 0.1, 0.5]))
def test_it_is_the_same_whoever_goes_on(
    client: redis.Redis,
    redis_settings: RedisSettings,
    mode: str,
    tasks: tuple[TaskSettings, ...],
    seed: int,
    upheaval: float,
) -> None:
    """Also where the memory is lost, or the other way of joining goes on."""
    rng = random.Random(seed)
    client.flushdb()
    said = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50, "time_users": 1, **MODES[mode]}
    join = JoinSettings(**said)
    sides = [Side(client, redis_settings, join, tasks, by=by) for by in ("script", "compiled")]
    offsets = [0, 0]
    for n, (topic, values) in enumerate(small_log(seed, 30)):
        for side in sides:
            side.feed(topic, offsets[topic], values)
        offsets[topic] += len(values)
        for side in sides:
            if n % 5 == 4:
                side.store.write_norms(n, {0: {"u1": 0.25 * n}}, {"b": 0.5 * n}, 1)
                side.store.roll_up_items([0], 1)
            if n % 7 == 6:
                side.ingest.tick(0, Reading(NOW, quiet=TOPICS[:1], read=TOPICS[1:], idle_after_ms=10))
        if rng.random() < upheaval:
            by = rng.choice(["script", "compiled"])
            for side in sides:
                side.take_over(by if side is sides[1] else "script")
    found, expected = (state_of(client, side.prefix) for side in reversed(sides))
    assert found.keys() == expected.keys()
    assert {key: value for key, value in found.items() if value != expected[key]} == {}


def test_a_memory_that_is_too_small_changes_nothing(client: redis.Redis, redis_settings: RedisSettings) -> None:
    join = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1)
    sides = [Side(client, redis_settings, join, TASKS, by=by) for by in ("script", "compiled")]
    sides[1].ingest._join = CompiledJoin(sides[1].store, memory_mb=0)
    offsets = [0, 0]
    for topic, values in small_log(7, 60):
        for side in sides:
            side.feed(topic, offsets[topic], values)
        offsets[topic] += len(values)
    found, expected = (state_of(client, side.prefix) for side in reversed(sides))
    assert found == expected
    assert sides[1].ingest._join._partitions == {}
