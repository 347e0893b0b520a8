"""Several labels per impression: what the base sample knows of each, and what the samples behind it say."""

from collections.abc import Sequence

import msgspec
import pytest
import redis
from support.columns import labelled

from learner.config import FieldSettings
from learner.samples.former import Sample
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from simulators.oracle import Record, expect
from simulators.runs.summary import differences
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.outbox import Outbox
from state_store.states import StateStore
from state_store.tasks import TaskSettings
from stream.events import Event, Feedback, Heartbeat, Impression, Served, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.sections import EventSettings
from stream.settings import SettingsError, load_settings

T0 = 10**12
TOPICS = ("impressions", "feedback")
ACTIONS = ActionSettings(names=("like", "share", "play"))
JOIN = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50, "time_users": 1}
TASKS = (
    TaskSettings("like", ("like",), main=True),
    TaskSettings("short", ("share",), window_ms=60),
    TaskSettings("long", ("play", "share"), window_ms=400, attribution_ms=1500),
)
Said = tuple[str, int, int, list[float | None] | None]
"""Kind, labels, known, values."""

BASE, LATER, NEGATIVE, POSITIVE = "base", "later", SampleKind.NEGATIVE, SampleKind.POSITIVE
LIKE, SHORT, LONG = 1, 2, 4


class Fed:
    """A store that was fed by hand, one record a batch."""

    def __init__(self, store: StateStore, fields: Sequence[FieldSettings]) -> None:
        self.store, self.fields = store, fields
        self.ingest = Ingest(store, fields, ACTIONS, EventSettings(), lambda dead: None)
        self.ingest.assign(0)
        self._next = [0, 0]
        self.log: list[Record] = []

    def feed(self, topic: int, event: Event) -> None:
        offset, value = self._next[topic], encode_event(event)
        self._next[topic] += 1
        self.log.append(Record(topic, 0, offset, value))
        self.ingest.process(TOPICS[topic], 0, [LogRecord(offset, value, 0)], T0 + 10**8)

    def samples(self) -> list[Sample]:
        entries = Outbox(self.store.client, self.store.keys.prefix, 1).read({}, max_entries=10_000).entries
        return labelled((entry.payload for entry in entries), self.fields, ACTIONS.names)

    def said(self) -> list[Said]:
        return [(s.kind.name.lower(), s.labels, s.known, s.values) for s in self.samples()]


def feedback(action: str, ts: int, value: float | None = None, imp: str = "a") -> Feedback:
    return Feedback(imp_id=imp, user_id="u", item_id="i", action=action, ts=T0 + ts, value=value)


NEGATIVE_BASE = ("negative", 0, LIKE | SHORT, None)
CASES: dict[str, tuple[list[Feedback], list[Said]]] = {
    "nothing": ([], [NEGATIVE_BASE, ("task_correction", 0, LONG, None)]),
    "the main one alone": (
        [feedback("like", 30)],
        [("positive", LIKE, LIKE | SHORT, None), ("task_correction", 0, LONG, None)],
    ),
    "all at once": (
        [feedback("share", 20), feedback("like", 30, 5.0)],
        [("positive", LIKE | SHORT | LONG, LIKE | SHORT | LONG, [5.0, None, None])],
    ),
    "behind the short window, inside the long one": (
        [feedback("share", 70, 2.0)],
        [
            ("negative", LONG, LIKE | SHORT | LONG, [None, 2.0, None]),
            ("task_correction", SHORT, SHORT, [None, 2.0, None]),
        ],
    ),
    "after the base sample, inside the long window": (
        [feedback("play", 300, 12.5)],
        [NEGATIVE_BASE, ("task_correction", LONG, LONG, [None, None, 12.5])],
    ),
    "behind the long window": (
        [feedback("play", 900)],
        [NEGATIVE_BASE, ("task_correction", 0, LONG, None), ("task_correction", LONG, LONG, None)],
    ),
    "of no use to a task any more, but to another": (
        [feedback("share", 1200)],
        [NEGATIVE_BASE, ("task_correction", 0, LONG, None), ("task_correction", LONG, LONG, None)],
    ),
    "the main one turns": (
        [feedback("like", 500, 1.5)],
        [NEGATIVE_BASE, ("task_correction", 0, LONG, None), ("correction", LIKE, LIKE, [1.5, None, None])],
    ),
    "a value that decides nothing travels with the label that closes last": (
        [feedback("like", 300, 3.0)],
        [
            NEGATIVE_BASE,
            ("correction", LIKE, LIKE, [3.0, None, None]),
            ("task_correction", 0, LONG, [3.0, None, None]),
        ],
    ),
    "two at once: the value of the first, which has none": (
        [feedback("play", 300), feedback("share", 300, 9.0)],
        [NEGATIVE_BASE, ("task_correction", LONG, LONG, None), ("task_correction", SHORT, SHORT, [None, 9.0, None])],
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ["feedback is read last", "feedback is read first", "side by side"])
def test_case(
    name: str, order: str, client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    fed = Fed(StateStore(client, redis_settings, JoinSettings(**JOIN), ACTIONS, TOPICS, TASKS), fields)
    came, expected = CASES[name]
    impression = Impression(imp_id="a", user_id="u", item_id="i", ts=T0)
    end = [Heartbeat(ts=T0 + 10**6)]
    if order == "side by side":
        # Time goes on in both topics, so that each deadline passes before what comes after it is read.
        fed.feed(0, impression)
        for event in came:
            fed.feed(0, Heartbeat(ts=event.ts))
            fed.feed(1, event)
        queues = [(0, end), (1, end)]
    else:
        queues = [(0, [impression, *end]), (1, [*came, *end])]
    for topic, events in queues if order != "feedback is read first" else reversed(queues):
        for event in events:
            fed.feed(topic, event)
    assert sorted(map(str, fed.said())) == sorted(map(str, expected))
    assert fed.said()[0] == expected[0], "the base sample comes first"
    tasks = fed.store.tasks
    assert differences(fed.store, 1, expect(fed.log, JoinSettings(**JOIN), ACTIONS, TASKS)) == {}
    assert [task.is_main for task in tasks] == [True, False, False]


def test_a_negative_that_was_left_out_and_turns_says_what_was_decided_meanwhile(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    join = JoinSettings(**JOIN, negative_rate=1e-9)
    fed = Fed(StateStore(client, redis_settings, join, ACTIONS, TOPICS, TASKS), fields)
    fed.feed(0, Impression(imp_id="a", user_id="u", item_id="i", ts=T0))
    for ts in (80, 300, 600):
        fed.feed(0, Heartbeat(ts=T0 + ts))
        fed.feed(1, Heartbeat(ts=T0 + ts))
    assert fed.said() == []
    fed.feed(1, feedback("like", 700))
    assert fed.said() == [("positive", LIKE, LIKE | SHORT, None), ("task_correction", 0, LONG, None)]
    fed.feed(0, Heartbeat(ts=T0 + 10**6))
    fed.feed(1, Heartbeat(ts=T0 + 10**6))
    assert len(fed.said()) == 2
    assert differences(fed.store, 1, expect(fed.log, join, ACTIONS, TASKS)) == {}


def test_a_task_may_be_appended_while_impressions_wait(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    join = JoinSettings(**JOIN)
    before = Fed(StateStore(client, redis_settings, join, ACTIONS, TOPICS, TASKS[:1]), fields)
    before.feed(0, Impression(imp_id="a", user_id="u", item_id="i", ts=T0))
    before.feed(1, feedback("like", 10, 4.0))
    after = Fed(StateStore(client, redis_settings, join, ACTIONS, TOPICS, TASKS), fields)
    after._next = before._next
    after.feed(1, feedback("share", 20))
    after.feed(0, Heartbeat(ts=T0 + 10**6))
    after.feed(1, Heartbeat(ts=T0 + 10**6))
    assert after.said() == [("positive", LIKE | SHORT | LONG, LIKE | SHORT | LONG, [4.0, None, None])]


def test_how_an_impression_was_shown_travels_with_it(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    tab = FieldSettings("domain", "context", "categorical")
    fed = Fed(StateStore(client, redis_settings, JoinSettings(**JOIN), ACTIONS, TOPICS), (*fields, tab))
    said = {"domain": "tab1", "stage": "rank", "position": 3, "propensity": 0.25}
    event = Impression(imp_id="a", user_id="u", item_id="i", ts=T0, served=Served(probability=0.5, version=9), **said)
    value = encode_event(event)
    fed.ingest.process("impressions", 0, [LogRecord(0, value, 0)], T0)
    fed.feed(1, Heartbeat(ts=T0 + 10**6))
    fed._next[0] = 1
    fed.feed(0, Heartbeat(ts=T0 + 10**6))
    [sample] = fed.samples()
    assert sample.core.shown is not None
    assert msgspec.structs.astuple(sample.core.shown) == ("tab1", "rank", 3, 0.25, 0.5, 9)
    assert sample.core.features[-1] == value_key("domain", "tab1"), "a field that is named so has it, too"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (['tasks=[{name="a",positive=["buy"]}]'], ["'a'", "buy", "actions.names", "like"]),
        (['tasks=[{name="a",positive=["like"]},{name="a",positive=["like"]}]'], ["twice", "'a'"]),
        (['tasks=[{name="a",positive=["like"],window_ms=5}]'], ["'a'", "lateness_ms <= window_ms", "60000", "5"]),
        (
            ['tasks=[{name="a",positive=["like"],main=true},{name="b",positive=["like"],main=true}]'],
            ["'a', 'b'", "main"],
        ),
        (['tasks=[{name="a",positive=["like"]}]', 'actions.positive=["like"]'], ["actions.positive", "[[tasks]]"]),
        (['tasks=[{name="a b",positive=["like"]}]'], ["tasks", "a b"]),
    ],
)
def test_what_is_wrong_with_tasks_is_said(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, overrides=overrides)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_without_tasks_there_is_one_that_is_named_after_its_actions() -> None:
    settings = load_settings(
        environment={}, overrides=['actions.names=["click","buy"]', 'actions.positive=["click","buy"]']
    )
    assert [(task.name, task.window_ms, task.is_main) for task in settings.labels] == [
        ("click_or_buy", JoinSettings().window_ms, True)
    ]
    assert settings.main_actions == (0, 1)
