"""Histories: what a user did before an impression, whatever the order in which it comes."""

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.fed import T0, Fed

from learner.config import FieldSettings, HistorySettings
from learner.samples.columns import LayoutError, Samples, concatenate, decode
from learner.samples.former import read_entry
from learner.samples.keys import NO_KEY, value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import FORMER_HISTORY_MAGIC, HISTORY_HEADER, Layout
from state_store.client import script_text
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.entities.histories import SPARE, history_field, read_histories
from state_store.entities.packed import PackedReads
from stream.events import Event, Feedback, Heartbeat, Impression
from stream.process.store import kept_histories
from stream.serving.packing import Candidate, Packing
from stream.serving.scorer import packed_reads
from stream.settings import Settings

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("genre", "item", "categorical"),
    FieldSettings("words", "item", "multi"),
)
ACTIONS = ("like", "share")
LIKED = HistorySettings("liked", ("like",), by="genre")
ANY = HistorySettings("any", ACTIONS)
JOIN = JoinSettings(window_ms=100, attribution_ms=1000, lateness_ms=50, time_users=1, settle_ms=300)
END = Heartbeat(ts=T0 + 10**7)


def shown(ts: int, imp: str, item: str, user: str = "u") -> Impression:
    features = {"genre": item[0], "words": ["a", "b"][: len(item) % 3]} if item != "none" else {}
    return Impression(imp_id=imp, user_id=user, item_id=item, ts=T0 + ts, features=features)


def did(ts: int, imp: str, item: str, action: str = "like", user: str = "u") -> Feedback:
    return Feedback(imp_id=imp, user_id=user, item_id=item, action=action, ts=T0 + ts)


def samples_of(fed: Fed) -> Samples:
    return concatenate([read_entry(entry.payload, fed.layout) for entry in fed.entries()])


def carried(samples: Samples) -> list[list[list[tuple[int, int, int]]]]:
    """Of each sample, of each history: its entries."""
    rows = samples.rows_B
    places = zip(rows["history_starts"].tolist(), rows["history_sizes"].tolist(), strict=True)
    return [
        [samples.entries_H[at : at + size].tolist() for at, size in zip(starts, sizes, strict=True)]
        for starts, sizes in places
    ]


def key(item: str) -> tuple[int, int]:
    return value_key("item_id", item), NO_KEY if item == "none" else value_key("genre", item[0])


def test_a_sample_carries_what_lay_before_its_impression(client: redis.Redis, redis_settings: RedisSettings) -> None:
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED, ANY))
    fed.feed(
        shown(0, "1", "x1"),
        did(40, "1", "x1"),
        shown(40, "2", "y1"),  # at the same time: not before it
        shown(41, "3", "none"),
        did(38, "3", "none", "share"),  # by a clock that lags behind: at its impression's time
        did(60, "2", "y1"),
        did(61, "2", "y1"),  # twice: once
        shown(70, "4", "x2"),
        END,
    )
    samples = samples_of(fed)
    base = samples.take(samples.is_labelled)
    x, y, none = [(T0 + 40, *key("x1"))], [(T0 + 60, *key("y1"))], [(T0 + 41, *key("none"))]
    plain = [[(ts, item, NO_KEY) for ts, item, _ in of] for of in (x, y, none)]
    assert dict(zip(base.imp_ids, carried(base), strict=True)) == {
        "1": [[], []],
        "2": [[], []],
        "3": [x, plain[0]],
        "4": [x + y, plain[0] + plain[2] + plain[1]],
    }
    settled = samples.take(samples.rows_B["kind"] == SampleKind.SETTLED)
    assert dict(zip(settled.imp_ids, carried(settled), strict=True))["4"] == [x + y, plain[0] + plain[2] + plain[1]]
    fed.expected()


def _log(rng: random.Random, size: int) -> tuple[list[Event], list[Event]]:
    """Impressions and feedback, each a little out of order."""
    impressions: list[tuple[float, Event]] = []
    feedback: list[tuple[float, Event]] = []
    for n in range(size):
        ts, user, item = n * rng.choice((0, 7, 20)), rng.choice("uv"), rng.choice(("x1", "x2", "y1", "none"))
        impressions.append((ts + rng.uniform(0, 45), shown(ts, str(n), item, user)))
        for action in ACTIONS:
            if rng.random() < 0.5:
                at = ts + rng.choice((-30, 0, 10, 90, 150, 900, 1100))
                came = [(at + rng.uniform(0, 45), did(at, str(n), item, action, user))]
                feedback += came * rng.choice((1, 1, 2))
    return [event for _, event in sorted(impressions, key=lambda e: e[0])], [
        event for _, event in sorted(feedback, key=lambda e: e[0])
    ]


def _feed(fed: Fed, queues: Sequence[list[Event]], rng: random.Random) -> None:
    left = [list(queue) for queue in queues]
    while any(left):
        topic = rng.choice([n for n in (0, 1) if left[n]])
        size = rng.choice((1, 2, 5, 30))
        fed.batch(topic, left[topic][:size])
        del left[topic][:size]
    fed.feed(END)


@given(seed=st.integers(0, 10**6), length=st.sampled_from([1, 3, 200]))
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_neither_batches_nor_the_order_of_topics_decide_anything(
    seed: int, length: int, client: redis.Redis, redis_settings: RedisSettings
) -> None:
    """What Redis keeps is the newest of what the oracle has; base samples carry just what lay before them."""
    histories = tuple(msgspec.structs.replace(of, length=length) for of in (LIKED, ANY))
    client.flushdb()
    rng = random.Random(seed)
    queues = _log(rng, 30)
    for turn in range(2):
        named = msgspec.structs.replace(redis_settings, prefix=f"h{turn}")
        fed = Fed(client, named, JOIN, FIELDS, ACTIONS, histories=histories)
        _feed(fed, queues, rng)
        expected = fed.expected()
        if length < 200:
            continue
        samples = samples_of(fed)
        for imp_id, kind, of in zip(samples.imp_ids, samples.rows_B["kind"], carried(samples), strict=True):
            wanted = [expected.history_before(history.name, imp_id, length) for history in histories]
            if kind == SampleKind.SHOWN:
                # What came later, but happened before, was not known then.
                assert all(set(got) <= set(want) for got, want in zip(of, wanted, strict=True))
            else:
                assert of == wanted


def test_a_history_is_bounded_and_belongs_to_its_user(client: redis.Redis, redis_settings: RedisSettings) -> None:
    histories = (msgspec.structs.replace(LIKED, length=2),)
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=histories)
    for n in range(8):
        fed.feed(shown(n, f"{n}", f"x{n}"), did(n, f"{n}", f"x{n}"))
    fed.feed(shown(50, "last", "y1"), shown(50, "other", "y1", "v"), END)
    samples = samples_of(fed)
    base = samples.take(samples.is_labelled)
    said = dict(zip(base.imp_ids, carried(base), strict=True))
    assert said["last"] == [[(T0 + n, *key(f"x{n}")) for n in (6, 7)]]
    assert said["other"] == [[]]
    [(user, text)] = read_histories(client, fed.store.keys.user(0, ""), history_field("liked", "genre")).items()
    assert (user, len(text)) == ("u", SPARE * 2 * 24)
    fed.expected()


def test_a_scorer_reads_what_samples_carry(client: redis.Redis, redis_settings: RedisSettings) -> None:
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED, ANY))
    for n in range(60):
        fed.feed(shown(n, f"{n}", f"x{n}"), did(n, f"{n}", f"x{n}", ACTIONS[n % 2]))
    reads = PackedReads(fed.store.keys, ("impressions", *ACTIONS), fed.store.histories)
    for user, items in (("u", ["x1", "x2"]), ("nobody", [])):
        keys, args = reads.ask(0, user, items)
        state = reads.read(client.eval(script_text("read_state"), len(keys), *keys, *args))
        liked, anything = (
            np.frombuffer(of, np.dtype("<f8,<u8,<u8")).tolist() for of in state.histories_before(T0 + 58, (50, 50))
        )
        known = user == "u"
        assert liked == [(T0 + n, *key(f"x{n}")) for n in range(0, 58, 2) if known]
        assert anything == [(T0 + n, key(f"x{n}")[0], NO_KEY) for n in range(8, 58) if known]
        assert state.item_counts_BC.tolist() == [[1, 0, 1], [1, 1, 0]][: len(items)]
    assert reads.nothing(3).histories_before(T0, (50, 50)) == [b"", b""]


def test_what_a_scorer_packs_is_what_the_sample_of_an_impression_carries(
    settings: Settings, client: redis.Redis
) -> None:
    """Of two candidates, each has the user's histories; an impression at the same moment has the same."""
    declared = msgspec.structs.replace(
        settings, fields=FIELDS, crosses=(), actions=ActionSettings(ACTIONS), histories=(LIKED, ANY), join=JOIN
    )
    fed = Fed(client, declared.redis, JOIN, FIELDS, ACTIONS, histories=declared.histories)
    for n in range(5):
        fed.feed(shown(n, f"{n}", f"x{n}"), did(n, f"{n}", f"x{n}", ACTIONS[n % 2]))
    fed.feed(shown(20, "now", "x1"))
    shown_now = samples_of(fed).take(np.array([imp == "now" for imp in samples_of(fed).imp_ids]))
    keys, args = packed_reads(declared).ask(0, "u", ["x1", "x2"])
    state = packed_reads(declared).read(client.eval(script_text("read_state"), len(keys), *keys, *args))
    packing = Packing(declared)
    candidates = [Candidate("x1", {"genre": "x"}), Candidate("x2")]
    packed = packing.samples(T0 + 20, "u", ["x1", "x2"], packing.columns({}, candidates), state)
    assert carried(packed) == 2 * carried(shown_now)
    assert carried(packed)[0][0]


def test_blocks_are_cut_put_together_and_encoded(client: redis.Redis, redis_settings: RedisSettings) -> None:
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED, ANY))
    _feed(fed, _log(random.Random(3), 40), random.Random(4))
    whole = samples_of(fed)
    told = carried(whole)
    assert any(of[0] and of[1] for of in told)
    parts = [whole.slice(at, at + 7) for at in range(0, len(whole), 7)]
    assert carried(concatenate(parts)) == carried(decode(whole.encode(), fed.layout)) == told
    chosen = np.arange(len(whole)) % 3 == 0
    assert carried(whole.take(chosen)) == told[::3]


def test_samples_of_one_user_share_the_entries_of_a_batch(client: redis.Redis, redis_settings: RedisSettings) -> None:
    """Consecutive impressions have almost the same histories; what none of them names is not there."""
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED,))
    for n in range(40):
        fed.feed(shown(n, f"{n}", f"x{n}"), did(n, f"{n}", f"x{n}"))
    fed.batch(0, [shown(100 + n, f"more {n}", f"y{n}") for n in range(20)])
    fed.feed(END)
    samples = samples_of(fed)
    assert samples.rows_B["history_sizes"].sum() > 20 * 40
    more = next(read_entry(e.payload, fed.layout) for e in fed.entries() if b"more 7" in e.payload)
    assert [len(of) for (of,) in carried(more)] == [40] * 20
    assert len(more.entries_H) == 40
    few = samples.take(samples.is_labelled & np.array([imp == "5" for imp in samples.imp_ids]))
    assert carried(decode(few.encode(), fed.layout)) == carried(few) == [[[(T0 + n, *key(f"x{n}")) for n in range(5)]]]
    assert len(decode(few.encode(), fed.layout).entries_H) == len(concatenate([few, few]).entries_H) // 2 == 5


def test_entries_of_a_former_version_are_read(client: redis.Redis, redis_settings: RedisSettings) -> None:
    """There each sample has its histories for itself, and no row says where."""
    fed = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED, ANY))
    _feed(fed, _log(random.Random(3), 40), random.Random(4))
    samples = samples_of(fed)
    entry = samples.encode()
    rows_B = np.zeros(len(samples), fed.layout.unshared_dtype)
    for name in rows_B.dtype.names or ():
        rows_B[name] = samples.rows_B[name]
    each = b"".join(
        samples.entries_H[at : at + size].tobytes()
        for at, size in zip(
            samples.rows_B["history_starts"].ravel(), samples.rows_B["history_sizes"].ravel(), strict=True
        )
    )
    _, *sizes, _ = HISTORY_HEADER.unpack_from(entry)
    head = HISTORY_HEADER.pack(FORMER_HISTORY_MAGIC, *sizes, len(each))
    texts_and_keys = entry[HISTORY_HEADER.size : HISTORY_HEADER.size + sum(sizes[2:])]
    former = read_entry(head + texts_and_keys + each + rows_B.tobytes(), fed.layout)
    assert carried(former) == carried(samples)
    assert former.encode() == concatenate([former]).encode()
    assert carried(concatenate([former, samples])) == 2 * carried(samples)


def test_histories_that_are_declared_while_impressions_wait(client: redis.Redis, redis_settings: RedisSettings) -> None:
    """What waited carries none, and is kept in the new history all the same."""
    before = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS)
    before.feed(shown(0, "1", "x1"))
    after = Fed(client, redis_settings, JOIN, FIELDS, ACTIONS, histories=(LIKED,))
    after.log = before.log
    after.feed(did(10, "1", "x1"), shown(20, "2", "y1"), END)
    samples = samples_of(after)
    base = samples.take(samples.is_labelled)
    assert dict(zip(base.imp_ids, carried(base), strict=True)) == {"1": [[]], "2": [[(T0 + 10, *key("x1"))]]}
    after.expected()
    entry = after.entries()[-1].payload
    with pytest.raises(LayoutError, match=r"histories"):
        decode(entry, before.layout)
    other = msgspec.structs.replace(LIKED, by="")
    with pytest.raises(LayoutError, match=r"\[\[histories\]\]"):
        decode(entry, Layout(FIELDS, ACTIONS, (other,)))


def test_without_histories_nothing_is_another() -> None:
    layout = Layout(FIELDS, ACTIONS)
    assert (layout.tag, layout.dtype) == (layout.bare_tag, layout.bare_dtype)
    assert kept_histories(layout).kept == ()
    assert Layout(FIELDS, ACTIONS, (LIKED,)).bare_tag == layout.tag
