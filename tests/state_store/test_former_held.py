"""Impressions that a former version holds: their samples leave in its form, next to columns, each once."""

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
import redis
from support.columns import records_of
from support.fed import T0, Fed
from support.former import as_former, as_held_by_version_1, hold_as_before

from learner.config import FieldSettings
from learner.samples.columns import decode
from learner.samples.former import Sample, read_entry
from learner.samples.keys import arm_key
from learner.samples.kind import SampleKind
from learner.samples.layout import MAGIC
from state_store.config import JoinSettings, RedisSettings
from state_store.tasks import TaskSettings
from stream.events import Event, Feedback, Heartbeat, Impression, Served

ACTIONS = ("like", "share", "play")
SINCE = ("served_arm", "served_canary", "served_other")
TASKS = (
    TaskSettings("like", ("like",), main=True),
    TaskSettings("short", ("share",), window_ms=60),
    TaskSettings("long", ("play", "share"), window_ms=400, attribution_ms=1500),
)
WINDOWS = {"window_ms": 100, "attribution_ms": 1000, "lateness_ms": 50, "settle_ms": 0, "time_users": 1}
JOINS = {
    name: JoinSettings(**{**WINDOWS, **more})  # type: ignore[arg-type]
    for name, more in {
        "window": {},
        "early positives": {"early_positives": True},
        "a share of the negatives": {"negative_rate": 0.5, "negative_rate_from": 1},
        "settled": {"settle_ms": 450},
        "immediate": {"mode": "immediate"},
    }.items()
}


def shown(imp: str, ts: int, **said: object) -> Impression:
    return Impression(imp_id=imp, user_id="u", item_id=f"i{ts % 3}", ts=T0 + ts, **said)  # type: ignore[arg-type]


def acted(imp: str, action: str, ts: int, value: float | None = None) -> Feedback:
    return Feedback(imp_id=imp, user_id="u", item_id="i", action=action, ts=T0 + ts, value=value)


def until(ts: int) -> list[tuple[int, list[Event]]]:
    return [(topic, [Heartbeat(ts=T0 + ts)]) for topic in (0, 1)]


BATCHES: list[tuple[int, list[Event]]] = [
    (
        0,
        [
            shown("a", 0),
            shown("b", 1, features={"age": 25, "genres": ["x", "y"], "price": 2.5}, position=3),
            shown("c", 2, features={"genres": []}, domain="tab", served=Served(probability=0.25, version=4)),
            shown("d", 3, features={"price": -1}, stage="rank", propensity=0.5),
            shown("é", 4, features={"age": "💥", "genres": "x"}),
        ],
    ),
    (1, [acted("b", "share", 21, 2.0), acted("b", "like", 31, 5.5), acted("c", "share", 72)]),
    *until(260),
    (1, [acted("d", "like", 303, 1.5), acted("c", "play", 312, 12.5), acted("a", "play", 320)]),
    *until(600),
    (1, [acted("é", "play", 904), acted("é", "like", 905)]),
    *until(920),
    (0, [shown("new", 921, features={"genres": ["x"]})]),
    *until(10**6),
]
IMPRESSIONS = {event.imp_id: event for _, events in BATCHES for event in events if isinstance(event, Impression)}


class Mixed(Fed):
    """Of which some impressions may be held as a former version did."""

    def hold_as_before(self, is_chosen: Callable[[str], bool] = lambda imp: True) -> dict[str, bytes]:
        """From now on impressions are held as if they had come to the version before."""
        return hold_as_before(self.store.client, self.store.keys, len(self.store.tasks), is_chosen)

    def hold_as_former(self, is_chosen: Callable[[str], bool] = lambda imp: True) -> set[str]:
        """The same of a version before that."""
        client, pending, found = self.store.client, self.store.keys.pending(0), self.hold_as_before(is_chosen)
        for imp, held in found.items():
            client.hset(pending, imp, as_former(held, IMPRESSIONS[imp], self.fields, ACTIONS))
        return set(found)

    def by_impression(self) -> dict[str, list[Sample]]:
        """What was said of each, in order."""
        found = defaultdict(list)
        for entry in self.entries():
            for sample in records_of(read_entry(entry.payload, self.layout)):
                found[sample.core.imp_id].append(sample)
        return found


@pytest.fixture
def make(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> Callable[[str, JoinSettings], Mixed]:
    def made(name: str, join: JoinSettings) -> Mixed:
        own = msgspec.structs.replace(redis_settings, prefix=f"{redis_settings.prefix}{name}")
        return Mixed(client, own, join, fields, ACTIONS, TASKS)

    return made


@pytest.mark.parametrize("mode", JOINS)
def test_at_whatever_moment_the_version_changes_the_same_is_said(
    make: Callable[[str, JoinSettings], Mixed], mode: str
) -> None:
    join, kinds = JOINS[mode], set[SampleKind]()
    todays = make("todays", join)
    for topic, events in BATCHES:
        todays.batch(topic, events)
    for changed in range(len(BATCHES)):
        mixed = make(f"mixed{changed}", join)
        held, before = set[str](), 0
        for n, (topic, events) in enumerate(BATCHES):
            mixed.batch(topic, events)
            if n == changed:
                held, before = mixed.hold_as_former(), len(mixed.entries())
        for entry in mixed.entries()[before:]:
            is_former = not entry.payload.startswith(MAGIC)
            samples = records_of(read_entry(entry.payload, mixed.layout))
            assert {sample.core.imp_id in held for sample in samples} == {is_former}
            kinds |= {sample.kind for sample in samples if is_former}
        assert str(mixed.by_impression()) == str(todays.by_impression())
        mixed.expected()
        check_sequences(mixed)
    bases = set() if mode == "immediate" else {SampleKind.NEGATIVE, SampleKind.POSITIVE}
    assert {*bases, SampleKind.CORRECTION, SampleKind.TASK_CORRECTION} <= kinds
    assert (SampleKind.SETTLED in kinds) == (mode == "settled")


@pytest.mark.parametrize("mode", JOINS)
def test_what_the_version_before_holds_goes_on_at_whatever_moment_it_is_replaced(
    make: Callable[[str, JoinSettings], Mixed], mode: str
) -> None:
    """All of it, or a part beside what came since, feedback and values included."""
    todays = make("todays", JOINS[mode])
    for topic, events in BATCHES:
        todays.batch(topic, events)
    for changed in range(len(BATCHES)):
        for chosen in ("abcdé", "bd"):
            mixed = make(f"mixed{changed}{len(chosen)}", JOINS[mode])
            for n, (topic, events) in enumerate(BATCHES):
                mixed.batch(topic, events)
                if n == changed:
                    mixed.hold_as_before(lambda imp, chosen=chosen: imp in chosen)  # type: ignore[misc]
            assert str(mixed.by_impression()) == str(todays.by_impression())
            mixed.expected()
            keys = mixed.store.keys
            left = (keys.pending(0), keys.bodies(0), keys.labels(0), keys.arrivals(0), keys.due(0))
            assert mixed.store.client.exists(*left) == 0, "state must not pile up"


def check_sequences(fed: Mixed) -> None:
    """Sequence numbers are those of the samples, one behind the other."""
    sequences = [0, *(entry.sequence for entry in fed.entries())]
    sizes = [len(read_entry(entry.payload, fed.layout)) for entry in fed.entries()]
    assert [last - before for before, last in pairwise(sequences)] == sizes
    assert int(fed.store.client.hget(fed.store.keys.fence(0), "seq")) == sum(sizes)


def test_one_batch_leaves_what_a_former_version_held_and_columns_behind_it(
    make: Callable[[str, JoinSettings], Mixed],
) -> None:
    fed = make("", JOINS["window"])
    fed.batch(*BATCHES[0])
    assert fed.hold_as_former(lambda imp: imp in "ac") == {"a", "c"}
    [all_shown] = fed.entries()
    assert [sample.kind for sample in records_of(decode(all_shown.payload, fed.layout))] == [SampleKind.SHOWN] * 5
    for topic, events in until(200):
        fed.batch(topic, events)
    _, former, columns = fed.entries()
    assert [sample.core.imp_id for sample in msgspec.msgpack.decode(former.payload, type=list[Sample])] == ["a", "c"]
    assert decode(columns.payload, fed.layout).imp_ids == ["b", "d", "é"]
    assert (all_shown.sequence, former.sequence, columns.sequence) == (5, 7, 10)


def test_columns_of_both_versions_leave_one_batch_each_as_its_own(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    """What a worker of the layout's first version holds leaves in its columns, also when a label comes later."""
    fed = Mixed(client, redis_settings, JOINS["window"], fields, ACTIONS)
    served = Served(probability=0.5, version=9, arm="wide", canary=True, other=0.25)
    events = [shown(imp, n, served=served, features={"genres": ["x"]}) for n, imp in enumerate("abc")]
    fed.batch(0, list(events))
    for imp, held in fed.hold_as_before(lambda imp: imp in "ac").items():
        client.hset(fed.store.keys.pending(0), imp, as_held_by_version_1(held, fed.layout))
    fed.batch(1, [acted("c", "like", 400), acted("b", "like", 401)])
    for topic, later in until(10**6):
        fed.batch(topic, later)
    samples = [read_entry(entry.payload, fed.layout) for entry in fed.entries()]
    said = {
        (imp, int(row["kind"])): row[["served_probability", "served_version", *SINCE]].tolist()
        for block in samples
        for imp, row in zip(block.imp_ids, block.rows_B, strict=True)
    }
    whole = (0.5, 9, arm_key("wide"), 1, 0.25)
    assert {key for key, found in said.items() if found == whole} == {("a", 4), ("b", 4), ("c", 4), ("b", 0), ("b", 2)}
    rest = {key: found for key, found in said.items() if found != whole}
    assert rest.keys() == {("a", 0), ("c", 0), ("c", 2)}
    assert {str(found) for found in rest.values()} == {"(0.5, 9, 0, 0, nan)"}
    check_sequences(fed)
    fed.expected()


def test_one_that_was_held_before_there_were_several_tasks(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    """A former body of one task, with feedback without a value: the shortest form."""
    fed = Mixed(client, redis_settings, JOINS["window"], fields, ACTIONS)
    fed.batch(*BATCHES[0])
    fed.batch(1, [acted("a", "like", 10), acted("c", "like", 500)])
    fed.hold_as_former()
    for topic, events in until(10**6):
        fed.batch(topic, events)
    former = [entry for entry in fed.entries() if not entry.payload.startswith(MAGIC)]
    raw = [sample for entry in former for sample in msgspec.msgpack.decode(entry.payload)]
    assert {(sample[0], sample[1], sample[2], sample[3][0], len(sample)) for sample in raw} == {
        (1, 1, 10, "a", 5),
        (0, 0, -1, "b", 5),
        (0, 0, -1, "c", 5),
        (2, 1, 498, "c", 5),
        (0, 0, -1, "d", 5),
        (0, 0, -1, "é", 5),
    }
    assert len(raw) == 6
    check_sequences(fed)
