"""Samples that say that an impression was shown: before its label, one for each that is accepted."""

from collections import Counter

import pytest
import redis
from support.fed import T0, Fed

from learner.config import FieldSettings
from learner.samples.kind import SampleKind
from state_store.config import JoinSettings, RedisSettings
from state_store.tasks import TaskSettings
from stream.events import Event, Feedback, Heartbeat, Impression

ACTIONS = ("like", "share")
TASKS = (TaskSettings("like", ("like",), main=True), TaskSettings("share", ("share",), window_ms=400))
JOIN = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50, "time_users": 1}
WAYS = {
    "as it is": {},
    "early positives": {"early_positives": True},
    "hardly any negatives": {"negative_rate": 1e-9},
}


@pytest.fixture
def make(client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]) -> type[Fed]:
    class Made(Fed):
        def __init__(self, **join: object) -> None:
            settings = JoinSettings(**{**JOIN, **join})
            super().__init__(client, redis_settings, settings, fields, ACTIONS, TASKS)

    return Made


def shown(imp: str, ts: int) -> Impression:
    return Impression(
        imp_id=imp, user_id="u", item_id="i", ts=T0 + ts, features={"age": 25, "genres": [imp]}, position=3
    )


def acted(imp: str, ts: int, action: str = "like") -> Feedback:
    return Feedback(imp_id=imp, user_id="u", item_id="i", action=action, ts=T0 + ts, value=2.5)


EVENTS: list[Event] = [
    acted("early", 5),
    shown("early", 0),
    shown("negative", 10),
    shown("positive", 20),
    shown("positive", 20),
    acted("positive", 40),
    shown("corrected", 60),
    shown("late", 0),
    acted("nothing", 65),
    Heartbeat(ts=T0 + 300),
    acted("corrected", 310),
    acted("negative", 320, "share"),
    shown("negative", 10),
    shown("last", 330),
    Heartbeat(ts=T0 + 10**6),
]
ACCEPTED = ["early", "negative", "positive", "corrected", "last"]


@pytest.mark.parametrize("way", WAYS)
def test_each_accepted_impression_is_shown_once_and_before_its_label(make: type[Fed], way: str) -> None:
    fed = make(**WAYS[way])
    fed.feed(*EVENTS)
    samples = fed.samples()
    said = [sample for sample in samples if sample.kind is SampleKind.SHOWN]
    assert [sample.core.imp_id for sample in said] == ACCEPTED, "in the order in which they came"
    first = {sample.core.imp_id: sample for sample in reversed(samples)}
    assert {imp: sample.kind for imp, sample in first.items()} == dict.fromkeys(ACCEPTED, SampleKind.SHOWN)
    for sample in said:
        assert (sample.label, sample.labels, sample.known, sample.task, sample.values) == (0, 0, 0, 0, None)
        assert sample.delay_ms == -1
    shown_as = {sample.core.imp_id: str((sample.core, sample.state)) for sample in said}
    labels = [sample for sample in samples if sample.kind is not SampleKind.SHOWN]
    assert len(labels) >= 3
    assert all(str((sample.core, sample.state)) == shown_as[sample.core.imp_id] for sample in labels), (
        "as of the impression"
    )
    expected = fed.expected()
    assert expected.counts["shown"] == fed.store.fence_counts([0])["shown"] == len(ACCEPTED)
    assert (expected.counts["duplicate_impression"], expected.counts["late"]) == (1, 2)


def test_it_is_there_as_soon_as_the_impression_is(make: type[Fed]) -> None:
    fed = make()
    fed.feed(shown("a", 0))
    assert [(sample.kind, sample.core.imp_id) for sample in fed.samples()] == [(SampleKind.SHOWN, "a")]
    fed.feed(acted("a", 10))
    assert len(fed.samples()) == 1


@pytest.mark.parametrize("join", [{"as_served": False}, {"mode": "immediate"}], ids=["not wanted", "immediate"])
def test_none_where_it_is_not_wanted_or_the_label_comes_at_once(make: type[Fed], join: dict[str, object]) -> None:
    fed = make(**join)
    fed.feed(*EVENTS)
    kinds = Counter(sample.kind for sample in fed.samples())
    assert kinds[SampleKind.SHOWN] == fed.store.fence_counts([0]).get("shown", 0) == fed.expected().counts["shown"] == 0
    assert kinds[SampleKind.NEGATIVE] + kinds[SampleKind.POSITIVE] == len(ACCEPTED)


def test_the_labels_are_the_same_with_and_without(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    found = []
    for as_served in (True, False):
        client.flushdb()
        join = JoinSettings(**JOIN, as_served=as_served)
        fed = Fed(client, redis_settings, join, fields, ACTIONS, TASKS)
        fed.feed(*EVENTS)
        found.append([str(sample) for sample in fed.samples() if sample.kind is not SampleKind.SHOWN])
    assert found[0] == found[1] != []
