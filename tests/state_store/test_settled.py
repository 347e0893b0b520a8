"""Negatives that are settled: said when nothing has come for `settle_ms`, once, and never of what turned before."""

import pytest
import redis
from support.fed import T0, Fed

from learner.config import FieldSettings
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from state_store.config import JoinSettings, RedisSettings
from state_store.tasks import TaskSettings
from stream.events import Event, Feedback, Heartbeat, Impression

TASKS = (TaskSettings("like", ("like",), main=True), TaskSettings("share", ("share",), window_ms=300))
JOIN = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50, "time_users": 1, "as_served": False}
END = Heartbeat(ts=T0 + 10**6)


@pytest.fixture
def make(client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]) -> type[Fed]:
    class Made(Fed):
        def __init__(self, tasks: tuple[TaskSettings, ...] = (), **join: object) -> None:
            settings = JoinSettings(**{**JOIN, "settle_ms": 400, **join})
            super().__init__(client, redis_settings, settings, fields, ("like", "share"), tasks)

    return Made


def until(ts: int) -> Heartbeat:
    return Heartbeat(ts=T0 + ts)


def acted(ts: int, action: str = "like") -> Feedback:
    return Feedback(imp_id="a", user_id="u", item_id="i", action=action, ts=T0 + ts)


SHOWN = Impression(imp_id="a", user_id="u", item_id="i", ts=T0, features={"age": 25, "genres": ["x"], "price": 1.5})
CASES: dict[str, tuple[list[Event], list[str]]] = {
    "nothing comes": ([], ["negative", "settled"]),
    "a positive": ([acted(100)], ["positive"]),
    "it turns before": ([until(300), acted(399)], ["negative", "correction"]),
    "it turns at the end": ([until(300), acted(400)], ["negative", "correction"]),
    "it turns behind the end": ([until(300), acted(401)], ["negative", "settled", "correction"]),
    "it turns after it was settled": ([until(700), acted(800)], ["negative", "settled", "correction"]),
    "only another action comes": ([acted(50, "share")], ["negative", "settled"]),
}


@pytest.mark.parametrize("tasks", [(), TASKS], ids=["one task", "two tasks"])
@pytest.mark.parametrize("name", CASES)
def test_case(make: type[Fed], name: str, tasks: tuple[TaskSettings, ...]) -> None:
    fed = make(tasks)
    came, expected = CASES[name]
    fed.feed(SHOWN, *came, END)
    assert kinds(fed) == expected
    assert fed.expected().counts["settled"] == expected.count("settled")


def kinds(fed: Fed) -> list[str]:
    return [s.kind.name.lower() for s in fed.samples() if s.kind is not SampleKind.TASK_CORRECTION]


@pytest.mark.parametrize("settle_ms", [101, 400, 1000, 5000])
def test_it_is_said_as_soon_as_time_has_passed(make: type[Fed], settle_ms: int) -> None:
    fed = make(settle_ms=settle_ms)
    after_ms = min(settle_ms, 1000)
    fed.feed(SHOWN, until(50 + after_ms))
    assert "settled" not in kinds(fed), "feedback may still come: so late is allowed"
    fed.feed(until(51 + after_ms))
    assert kinds(fed) == ["negative", "settled"]
    fed.feed(END)
    assert kinds(fed) == ["negative", "settled"]


def test_it_says_what_the_negative_said_and_no_label(make: type[Fed]) -> None:
    fed = make(TASKS)
    fed.feed(SHOWN, Impression(imp_id="b", user_id="u", item_id="i", ts=T0 + 1), until(120), acted(130, "share"), END)
    of_a = [sample for sample in fed.samples() if sample.core.imp_id == "a"]
    [negative] = [sample for sample in of_a if sample.kind is SampleKind.NEGATIVE]
    [settled] = [sample for sample in of_a if sample.kind is SampleKind.SETTLED]
    assert settled == Sample(SampleKind.SETTLED, 0, -1, negative.core, negative.state)


@pytest.mark.parametrize(
    "join",
    [{"settle_ms": 0}, {"settle_ms": 100}, {"mode": "immediate"}, {"negative_rate": 1e-9}],
    ids=["not wanted", "no later than the window", "immediate", "dropped"],
)
def test_none_is_settled_that_is_believed_at_once_or_left_out(make: type[Fed], join: dict[str, object]) -> None:
    fed = make(**join)
    fed.feed(SHOWN, END)
    assert "settled" not in kinds(fed)
    assert fed.expected().counts["settled"] == 0


def test_a_dropped_negative_that_turns_is_a_positive_alone(make: type[Fed]) -> None:
    fed = make(negative_rate=1e-9)
    fed.feed(SHOWN, until(700), acted(800), END)
    assert kinds(fed) == ["positive"]
    fed.expected()
