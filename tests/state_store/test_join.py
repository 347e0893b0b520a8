"""The label join: a table of cases, and the property that batching and interleaving decide nothing."""

from collections import Counter
from itertools import count

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.columns import labelled

from learner.config import FieldSettings
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from simulators.oracle import Record, expect
from simulators.runs.summary import differences
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.outbox import Outbox
from state_store.records import Reading, Span
from state_store.states import StateStore
from state_store.tasks import Task, TaskSettings, settled_after_ms
from stream.events import Event, Feedback, Heartbeat, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.sections import EventSettings

TOPICS = ("impressions", "feedback")
T0 = 10**12
END = Heartbeat(ts=T0 + 10**7)
_prefixes = count()
_HELD = ("pending", "bodies", "labels", "arrivals", "waiting", ":due")


class Pipeline:
    """Ingest on one real Redis, fed by hand."""

    def __init__(self, store: StateStore, fields: tuple[FieldSettings, ...], actions: ActionSettings) -> None:
        self.store = store
        self.dead: list = []
        self.fields, self.actions = fields, actions.names
        self.ingest = Ingest(store, fields, actions, EventSettings(), self.dead.extend)
        self.ingest.assign(0)
        self.offsets = Counter[int]()
        self.log: list[Record] = []

    def feed(self, topic: int, *events: Event | bytes, markers: int = 0) -> None:
        """Feed a batch, which has as many offsets that are no records before its first record and behind its last."""
        values = [e if isinstance(e, bytes) else encode_event(e) for e in events]
        first = self.offsets[topic]
        records = [LogRecord(first + markers + i, value, 0) for i, value in enumerate(values)]
        self.log += [Record(topic, 0, r.offset, r.value or b"") for r in records]
        self.offsets[topic] += len(values) + 2 * markers
        span = Span(first, self.offsets[topic] - 1)
        self.ingest.process(TOPICS[topic], 0, records, now_ms=T0 + 10**8, span=span)

    def samples(self, *, shown: bool = False) -> list[Sample]:
        entries = Outbox(self.store.client, self.store.keys.prefix, 1).read({}, max_entries=10_000).entries
        return labelled((entry.payload for entry in entries), self.fields, self.actions, shown=shown)


@pytest.fixture
def pipeline(store: StateStore, fields: tuple[FieldSettings, ...], actions: ActionSettings) -> Pipeline:
    return Pipeline(store, fields, actions)


def shown(ts: int, imp: str = "a", user: str = "u", item: str = "i") -> Impression:
    return Impression(imp_id=imp, user_id=user, item_id=item, ts=T0 + ts)


def liked(
    ts: int, imp: str = "a", user: str = "u", item: str = "i", action: str = "like", value: float | None = None
) -> Feedback:
    return Feedback(imp_id=imp, user_id=user, item_id=item, action=action, ts=T0 + ts, value=value)


SHOWN, LIKED = 0, 1
NEGATIVE, POSITIVE, CORRECTION = SampleKind.NEGATIVE, SampleKind.POSITIVE, SampleKind.CORRECTION

# window 100 ms, attribution 1000 ms, lateness 50 ms
CASES = {
    "no feedback": ([(SHOWN, shown(0))], [NEGATIVE], {}),
    "in the window": ([(SHOWN, shown(0)), (LIKED, liked(30))], [POSITIVE], {"matched": 1}),
    "at the window's end": ([(SHOWN, shown(0)), (LIKED, liked(100))], [POSITIVE], {}),
    "behind the window": ([(SHOWN, shown(0)), (LIKED, liked(101))], [NEGATIVE, CORRECTION], {}),
    "at the end of attribution": ([(SHOWN, shown(0)), (LIKED, liked(1000))], [NEGATIVE, CORRECTION], {}),
    "behind attribution": ([(SHOWN, shown(0)), (LIKED, liked(1001))], [NEGATIVE], {"orphan": 1}),
    "feedback first": ([(LIKED, liked(30)), (SHOWN, shown(0))], [POSITIVE], {"matched": 1}),
    "late feedback first": ([(LIKED, liked(500)), (SHOWN, shown(0))], [NEGATIVE, CORRECTION], {}),
    "no impression": ([(LIKED, liked(30))], [], {"orphan": 1}),
    "feedback twice": (
        [(SHOWN, shown(0)), (LIKED, liked(30)), (LIKED, liked(31))],
        [POSITIVE],
        {"duplicate_feedback": 1},
    ),
    "impression twice": ([(SHOWN, shown(0)), (SHOWN, shown(0))], [NEGATIVE], {"duplicate_impression": 1}),
    "clocks differ": ([(SHOWN, shown(40)), (LIKED, liked(0))], [POSITIVE], {}),
    "clocks differ too much": ([(SHOWN, shown(60)), (LIKED, liked(0))], [NEGATIVE], {"orphan": 1}),
    "an earlier second like": (
        [(SHOWN, shown(0)), (LIKED, liked(120)), (LIKED, liked(90))],
        [NEGATIVE, CORRECTION],
        {},
    ),
    "out of order": ([(SHOWN, shown(40)), (SHOWN, shown(0, "b"))], [NEGATIVE, NEGATIVE], {}),
    "late impression": ([(SHOWN, shown(60)), (SHOWN, shown(0, "b"))], [NEGATIVE], {"late": 1}),
    "late feedback": (
        [(SHOWN, shown(0)), (LIKED, liked(90, "z")), (LIKED, liked(30))],
        [NEGATIVE],
        {"late": 1, "orphan": 1},
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("early", [False, True])
def test_case(
    name: str, early: bool, client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    join = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1, early_positives=early)
    actions = ActionSettings()
    pipeline = Pipeline(StateStore(client, redis_settings, join, actions, TOPICS), fields, actions)
    events, kinds, counts = CASES[name]
    for topic, event in events:
        pipeline.feed(topic, event)
    pipeline.feed(SHOWN, END)
    pipeline.feed(LIKED, END)
    assert [s.kind for s in pipeline.samples()] == kinds
    found = pipeline.store.fence_counts([0])
    assert {k: found.get(k, 0) for k in counts} == counts
    assert differences(pipeline.store, 1, expect(pipeline.log, join, actions)) == {}
    left = [k.decode() for k in client.keys(f"{redis_settings.prefix}:*") if b"fence" not in k]
    assert not any(part in key for key in left for part in _HELD), "state must not pile up"


def test_immediate_mode_emits_a_negative_at_once_and_corrects_it(
    client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    join = JoinSettings(mode="immediate", window_ms=100, attribution_ms=1000, lateness_ms=50)
    pipeline = Pipeline(StateStore(client, redis_settings, join, ActionSettings(), TOPICS), fields, ActionSettings())
    pipeline.feed(SHOWN, shown(0), shown(1, "b"))
    assert [s.kind for s in pipeline.samples()] == [NEGATIVE, NEGATIVE]
    pipeline.feed(LIKED, liked(30))
    assert [(s.kind, s.core.imp_id) for s in pipeline.samples()][2:] == [(CORRECTION, "a")]


@pytest.mark.parametrize("mode", ["window", "immediate"])
def test_a_share_of_the_negatives_is_kept_of_users_that_are_known(
    mode: str, client: redis.Redis, redis_settings: RedisSettings, fields: tuple[FieldSettings, ...]
) -> None:
    join = JoinSettings(
        mode=mode, window_ms=100, attribution_ms=1000, lateness_ms=50, negative_rate=0.25, negative_rate_from=10
    )
    pipeline = Pipeline(StateStore(client, redis_settings, join, ActionSettings(), TOPICS), fields, ActionSettings())
    pipeline.feed(SHOWN, *(shown(n, f"imp{n}", f"u{n % 20}") for n in range(4000)))
    liked_late = [f"imp{n}" for n in range(3000, 4000)]
    pipeline.feed(LIKED, *(liked(3500 + n, imp) for n, imp in enumerate(liked_late)))
    pipeline.feed(SHOWN, END)
    pipeline.feed(LIKED, END)
    samples, counts = pipeline.samples(), pipeline.store.fence_counts([0])
    bases = [s for s in samples if s.kind is not CORRECTION]
    negatives = [s for s in bases if s.kind is NEGATIVE]
    cold = [s for s in negatives if s.state.user_counts[0] < 10]
    assert len(cold) == 200
    assert {s.state.negative_rate for s in cold} == {1.0}
    assert {s.state.negative_rate for s in bases if s.state.user_counts[0] >= 10} == {0.25}
    assert len(negatives) - len(cold) == pytest.approx(3800 * 0.25, abs=100)
    # A late like of one that was dropped is a positive, of one that was kept a correction: each is learned once.
    liked_kinds = Counter(s.core.imp_id for s in samples if s.label)
    assert liked_kinds == Counter(liked_late)
    assert counts["dropped"] + counts["negative"] + counts["positive"] == counts["accepted"] == 4000
    assert pipeline.store.read_user(0, "u1").counts[0] == 200


def test_one_topic_alone_does_not_move_the_watermark(pipeline: Pipeline) -> None:
    """A replay that reads impressions ahead of feedback must not turn positives into negatives."""
    pipeline.feed(SHOWN, *(shown(n * 10, f"imp{n}") for n in range(500)))
    assert pipeline.samples() == []
    pipeline.feed(LIKED, *(liked(n * 10 + 50, f"imp{n}") for n in range(500)))
    pipeline.feed(SHOWN, END)
    pipeline.feed(LIKED, END)
    assert [s.kind for s in pipeline.samples()] == [POSITIVE] * 500


def test_an_idle_topic_does_not_hold_the_watermark_back(pipeline: Pipeline) -> None:
    pipeline.feed(SHOWN, shown(0), shown(500, "b"))
    pipeline.ingest.tick(0)
    assert pipeline.samples() == []
    pipeline.ingest.tick(0, Reading(T0, quiet=("feedback",)))
    assert [s.core.imp_id for s in pipeline.samples()] == ["a"]
    pipeline.ingest.tick(0, Reading(T0 + 10**8 + 149, quiet=TOPICS))
    assert [s.core.imp_id for s in pipeline.samples()] == ["a"]
    pipeline.ingest.tick(0, Reading(T0 + 10**8 + 151, quiet=TOPICS))
    assert [s.core.imp_id for s in pipeline.samples()] == ["a", "b"]


def test_malformed_records_are_buried_and_nothing_else_is_lost(pipeline: Pipeline) -> None:
    bad = b'{"type":"impression","imp_id":"x"}'
    misplaced = encode_event(liked(5))
    far = encode_event(Impression(imp_id="f", user_id="u", item_id="i", ts=T0 + 10**12))
    pipeline.feed(SHOWN, shown(0), bad, misplaced, far, shown(1, "b"))
    unknown = encode_event(Feedback(imp_id="a", user_id="u", item_id="i", action="buy", ts=T0))
    pipeline.feed(LIKED, unknown, liked(10))
    pipeline.feed(SHOWN, END)
    pipeline.feed(LIKED, END)
    buried = [(d.topic, d.offset, d.value) for d in pipeline.dead]
    assert buried == [
        ("impressions", 1, bad),
        ("impressions", 2, misplaced),
        ("impressions", 3, far),
        ("feedback", 0, unknown),
    ]
    assert all(word in d.reason for word, d in zip(["user_id", "topic", "ts", "buy"], pipeline.dead, strict=True))
    assert [s.kind for s in pipeline.samples()] == [POSITIVE, NEGATIVE]
    assert pipeline.store.fence_counts([0])["malformed"] == 4


def test_a_redelivered_batch_is_trimmed_to_what_is_new(pipeline: Pipeline) -> None:
    values = [encode_event(shown(n, f"imp{n}")) for n in range(10)]
    records = [LogRecord(i, v, 0) for i, v in enumerate(values)]
    pipeline.ingest.process("impressions", 0, records[:6], T0)
    pipeline.ingest.process("impressions", 0, records[3:], T0)
    assert pipeline.store.read_user(0, "u").counts[0] == 10


# Properties ---------------------------------------------------------------------------------------------------------

STEPS = st.sampled_from([0, 1, 10, 40, 60, 120, 600, 1100, 20_000])
JITTER = st.sampled_from([0, 0, 0, 20, 45, 80])
FAST = st.sampled_from([0, 0, 0, 0, 70, 5000])
"""How far a device's clock is ahead."""
ACTIONS = ("like", "share", "play")
VALUES = st.sampled_from([None, None, 2.5, 7.0])
TASKS = {
    "none": (),
    "other windows": (
        TaskSettings("like", ("like",), main=True),
        TaskSettings("short", ("share",), window_ms=60),
        TaskSettings("long", ("play", "share"), window_ms=400, attribution_ms=1500),
    ),
    "the main one reaches farthest": (
        TaskSettings("played", ("play",), window_ms=60, attribution_ms=60),
        TaskSettings("any", ("like", "share", "play"), window_ms=600, attribution_ms=700, main=True),
        TaskSettings("same", ("like",), window_ms=600, attribution_ms=1500),
    ),
}
"""The join's window is 100 ms, its attribution 1000 ms."""


@st.composite
def logs(draw: st.DrawFn) -> list[list[Event]]:
    """Two topics, mostly in order, with retries, orphans, late events and leaps.

    A retry of an impression carries its id and its time; an id that is used again for another impression is outside the
    contract of `Impression`.
    """
    queues: list[list[Event]] = []
    users = draw(st.sampled_from([3, 7]))
    for event in (shown, liked):
        queue: list[Event] = []
        ts = 0
        for n in range(draw(st.integers(0, 14))):
            ts += draw(STEPS)
            imp = n if event is shown else draw(st.integers(0, 14))
            said = () if event is shown else (draw(st.sampled_from(ACTIONS)), draw(VALUES))
            told = ts - draw(JITTER) + draw(FAST)
            queue.append(event(told, f"imp{imp}", f"u{imp % users}", f"i{imp % 4}", *said))
            if draw(st.integers(0, 4)) == 0:
                queue.append(queue[draw(st.integers(max(0, len(queue) - 3), len(queue) - 1))])
        queues.append([*queue, END])
    return queues


@st.composite
def crowded_logs(draw: st.DrawFn) -> list[list[Event]]:
    """Two impressions and much feedback to the first, around the ends of the windows, half of it out of order."""
    impressions = [shown(0, "imp0"), shown(5, "imp1")]
    feedback: list[Event] = []
    ts = draw(st.sampled_from([0, 50, 90, 350]))
    for _ in range(draw(st.integers(2, 8))):
        ts += draw(st.sampled_from([0, 10, 30, 60, 90]))
        behind = draw(st.sampled_from([0, 0, 20, 45]))
        said = draw(st.sampled_from(ACTIONS)), draw(VALUES)
        feedback.append(liked(ts - behind, draw(st.sampled_from(["imp0", "imp0", "imp0", "imp1"])), "u", "i", *said))
    return [[*impressions, END], [*feedback, END]]


def run(
    queues: list[list[Event]],
    cuts: list[int],
    store: StateStore,
    fields: tuple[FieldSettings, ...],
    actions: ActionSettings,
) -> tuple[Pipeline, dict]:
    """Feed both topics in an order and in batches that `cuts` decides."""
    pipeline = Pipeline(store, fields, actions)
    left = [list(q) for q in queues]
    for cut in cuts:
        topic, size = cut % 2, cut // 2
        batch, left[topic] = left[topic][:size], left[topic][size:]
        if batch:
            pipeline.feed(topic, *batch, markers=size % 3)
    for topic in (SHOWN, LIKED):
        if left[topic]:
            pipeline.feed(topic, *left[topic])
    exact = {
        "counts": {name: n for name, n in pipeline.store.fence_counts([0]).items() if n},
        "samples": sorted(
            (s.core.imp_id, int(s.kind), s.task, s.label, s.delay_ms, s.labels, s.known, str(s.values))
            for s in pipeline.samples()
        ),
        "as_of": {s.core.imp_id: s.state.user_counts[0] for s in pipeline.samples()},
        "users": pipeline.store.iter_counters(0, "u"),
        "items": pipeline.store.iter_counters(0, "i"),
    }
    return pipeline, exact


MODES = st.sampled_from([("window", False), ("window", True), ("immediate", False)])
RATES = st.sampled_from([(1.0, 0), (0.5, 0), (0.3, 2)])


def final_labels(samples: list[Sample], tasks: tuple[Task, ...]) -> dict[str, dict[str, int]]:
    """Task -> impression -> label, from what the samples say one after the other."""
    found: dict[str, dict[str, int]] = {task.name: {} for task in tasks}
    for sample in samples:
        if sample.kind is SampleKind.SETTLED:
            continue
        known, labels = (sample.known, sample.labels) if sample.known else (1, sample.label)
        for n, task in enumerate(tasks):
            if known >> n & 1:
                found[task.name][sample.core.imp_id] = labels >> n & 1
    return found


def check_order(samples: list[Sample], shown_first: bool, settle_ms: int) -> None:
    """Of each impression's main label it is said that it was shown, then a label, then what becomes of a negative."""
    said: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.kind is not SampleKind.TASK_CORRECTION:
            said.setdefault(sample.core.imp_id, []).append(sample)
    for of_one in said.values():
        kinds = [sample.kind for sample in of_one]
        if shown_first:
            assert kinds.pop(0) is SampleKind.SHOWN
        if NEGATIVE in kinds:
            is_taken_back = kinds[-1] is CORRECTION
            is_settled = settle_ms > 0 and (not is_taken_back or of_one[-1].delay_ms > settle_ms)
            assert kinds == [NEGATIVE, *[SampleKind.SETTLED] * is_settled, *[CORRECTION] * is_taken_back]
        else:
            assert kinds in ([POSITIVE], [])


@given(
    queues=st.one_of(logs(), crowded_logs(), crowded_logs()),
    cuts=st.one_of(st.lists(st.integers(2, 9), max_size=20), st.just([2, 2, 2, *[3] * 8])),
    mode=MODES,
    rate=RATES,
    declared=st.sampled_from(sorted(TASKS)),
    agreeing=st.sampled_from([1, 1, 2, 3]),
    settle_ms=st.sampled_from([0, 0, 100, 350, 1000, 5000]),
    as_served=st.booleans(),
)
@hypothesis_settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_batching_and_interleaving_decide_nothing(
    queues: list[list[Event]],
    cuts: list[int],
    mode: tuple[str, bool],
    rate: tuple[float, int],
    declared: str,
    agreeing: int,
    settle_ms: int,
    as_served: bool,
    client: redis.Redis,
    redis_settings: RedisSettings,
    fields: tuple[FieldSettings, ...],
) -> None:
    """Any split of a log into batches, and any interleaving of its topics, gives the same exact part: the oracle's."""
    join = JoinSettings(
        mode=mode[0],
        window_ms=100,
        attribution_ms=1000,
        lateness_ms=50,
        time_users=agreeing,
        early_positives=mode[1],
        negative_rate=rate[0],
        negative_rate_from=rate[1],
        settle_ms=settle_ms,
        as_served=as_served,
    )
    is_window = mode[0] == "window"
    tasks = TASKS[declared]
    actions = ActionSettings(ACTIONS, () if tasks else ("like", "share"))
    results = []
    # The audit scans all keys; what earlier examples left behind would make each one slower than the last.
    client.flushdb()
    for order in (cuts, []):
        named = msgspec.structs.replace(redis_settings, prefix=f"{redis_settings.prefix}-{next(_prefixes)}")
        store = StateStore(client, named, join, actions, TOPICS, tasks)
        pipeline, exact = run(queues, order, store, fields, actions)
        expected = expect(pipeline.log, join, actions, tasks)
        assert differences(store, 1, expected) == {}
        samples = pipeline.samples(shown=True)
        all_shown = [sample.core.imp_id for sample in samples if sample.kind is SampleKind.SHOWN]
        assert len(all_shown) == len(set(all_shown)) == expected.counts["shown"]
        # Of what is dropped nothing else is said.
        assert set(all_shown) >= set(expected.user_impressions) or not (is_window and as_served)
        check_order(samples, is_window and as_served, settled_after_ms(store.tasks, join))
        assert final_labels(pipeline.samples(), store.tasks) == expected.labels
        assert exact["as_of"] == expected.user_impressions
        results.append(exact)
    assert results[0] == results[1]
