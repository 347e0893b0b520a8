"""Event time: what several users agree on, and how it goes on by the clock where nobody comes."""

import json
from collections.abc import Sequence

import pytest
import redis

from learner.config import FieldSettings
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.records import Reading
from state_store.states import StateStore
from stream.events import Heartbeat, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.sections import EventSettings

TOPICS = ("impressions", "feedback")
T0, NOW = 10**12, 2 * 10**12
MINUTE, HOUR = 60_000, 3_600_000
IDLE_MS = 10_000


class Clocked:
    """Impressions of one partition, fed by hand, with the defaults of the join."""

    def __init__(self, client: redis.Redis, settings: RedisSettings, fields: Sequence[FieldSettings], n: int) -> None:
        self.store = StateStore(client, settings, JoinSettings(time_users=n), ActionSettings(), TOPICS)
        self._ingest = Ingest(self.store, fields, ActionSettings(), EventSettings(), lambda dead: None)
        self._ingest.assign(0)
        self._next = 0

    def show(self, user: str, ts: int, now_ms: int = NOW) -> None:
        event = Impression(imp_id=f"imp{self._next}", user_id=user, item_id="i", ts=T0 + ts)
        self.feed(encode_event(event), now_ms)

    def feed(self, value: bytes, now_ms: int = NOW) -> None:
        self._ingest.process(TOPICS[0], 0, [LogRecord(self._next, value, 0)], now_ms)
        self._next += 1

    def tick(self, now_ms: int, *, quiet: bool = True) -> None:
        reading = Reading(now_ms, TOPICS if quiet else TOPICS[1:], TOPICS, IDLE_MS)
        self._ingest.tick(0, reading)

    @property
    def watermark(self) -> int | None:
        found = self.store.client.hget(self.store.keys.fence(0), "watermark")
        return None if found is None else int(found) - T0

    def count(self, name: str) -> int:
        return self.store.fence_counts([0]).get(name, 0)


@pytest.fixture
def make(client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]) -> type[Clocked]:
    class Made(Clocked):
        def __init__(self, n: int = 5) -> None:
            super().__init__(client, redis_settings, fields, n)

    return Made


@pytest.mark.parametrize("ahead", [MINUTE + 1, 90_000, 2 * HOUR, 23 * HOUR])
@pytest.mark.parametrize("at", [0, 1, 50, 199])
def test_one_users_fast_clock_makes_nobody_late(make: type[Clocked], ahead: int, at: int) -> None:
    clocked = make()
    for n in range(400):
        clocked.show("fast" if n == at else f"u{n % 20}", n * 100 + (ahead if n == at else 0))
    assert (clocked.count("late"), clocked.count("accepted")) == (0, 400)


def test_a_user_cannot_agree_with_itself(make: type[Clocked]) -> None:
    clocked = make(2)
    for n in range(100):
        clocked.show("fast", 2 * HOUR + n)
        clocked.show(f"u{n % 7}", n)
    assert clocked.count("late") == 0


def test_time_moves_when_enough_users_say_so(make: type[Clocked]) -> None:
    clocked = make(3)
    for n in range(10):
        clocked.show(f"u{n}", n)
    for n in range(2):
        clocked.show(f"u{n}", HOUR + n)
    clocked.show("slow", 10)
    assert clocked.count("late") == 0
    for n in range(3):
        clocked.show(f"v{n}", HOUR + n)
    clocked.show("slow", 10)
    assert clocked.count("late") == 1


def test_a_heartbeat_needs_nobodys_consent(make: type[Clocked]) -> None:
    clocked = make()
    clocked.feed(encode_event(Heartbeat(ts=T0 + HOUR)))
    clocked.show("u", 0)
    assert clocked.count("late") == 1


def test_what_is_remembered_of_users_is_bounded(make: type[Clocked]) -> None:
    clocked = make()
    sizes = []
    for n in range(200):
        clocked.show(f"user{n:04d}", n)
        sizes.append(clocked.store.client.hstrlen(clocked.store.keys.fence(0), "claims:impressions"))
    assert max(sizes[20:]) <= max(sizes[:20])


def test_a_quiet_partition_of_old_events_closes_its_windows_at_the_pace_of_the_clock(make: type[Clocked]) -> None:
    clocked = make()
    clocked.show("u", 0)
    clocked.show("u", 5000)
    clocked.tick(NOW + IDLE_MS)
    assert clocked.watermark == 5000 - MINUTE
    window = JoinSettings().window_ms
    clocked.tick(NOW + IDLE_MS + window + MINUTE)
    assert (clocked.watermark, clocked.count("negative")) == (5000 + window, 1)
    clocked.tick(NOW + IDLE_MS + window + 2 * MINUTE)
    assert clocked.count("negative") == 2


def test_a_quiet_partition_does_not_pass_the_wall_clock(make: type[Clocked]) -> None:
    """A device two hours ahead was the last that came."""
    clocked = make()
    now = T0
    clocked.show("fast", 2 * HOUR, now)
    clocked.tick(now + IDLE_MS + 1)
    assert clocked.watermark == 1 - MINUTE


def test_few_active_users_do_not_stop_time(make: type[Clocked]) -> None:
    clocked = make(3)
    for n in range(3):
        clocked.show(f"u{n}", n, T0 + n)
    for second in range(1, 600):
        clocked.show("u0", 1000 * second, T0 + 1000 * second)
        clocked.tick(T0 + 1000 * second, quiet=False)
    assert clocked.watermark is not None
    assert clocked.watermark > 599_000 - MINUTE - IDLE_MS - 5000
    assert clocked.count("late") == 0


def test_a_retry_of_what_the_clock_has_closed_is_late_and_not_counted_again(make: type[Clocked]) -> None:
    clocked = make()
    retry = encode_event(Impression(imp_id="a", user_id="u", item_id="i", ts=T0))
    clocked.feed(retry)
    clocked.tick(NOW + 3 * HOUR)
    clocked.feed(retry)
    assert (clocked.count("accepted"), clocked.count("late")) == (1, 1)


@pytest.mark.parametrize("user", ["💥", "\x00", '"\\', "\u2028", "a" * 256])
def test_users_with_odd_names_are_remembered_as_text(make: type[Clocked], user: str) -> None:
    clocked = make(2)
    for n in range(3):
        clocked.show(user, n)
        clocked.show("v", HOUR + n)
    fence = clocked.store.client.hgetall(clocked.store.keys.fence(0))
    assert user in json.loads(fence[b"claims:impressions"])["users"]
    assert all(value.decode() for value in fence.values())
    assert clocked.count("late") == 0
