"""Hostile input: whatever comes, nothing crashes, and every record is accounted for."""

import json
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from learner.config import FieldSettings
from state_store.config import ActionSettings
from state_store.states import StateStore
from stream.ingest.rows import DeadLetter, LogRecord
from stream.ingest.stage import Ingest
from stream.sections import EventSettings

NUM_RECORDS, NUM_RECORDS_LONG = 20_000, 500_000
NOW = 1_700_000_000_000
TOPICS = ("impressions", "feedback")

STRANGE = (
    None, True, "\ud800", -1, 0, 2**53, 2**63, 2**64, 10**400, -1e308,
    1e-320, "", " ", "\x00", "\ud7ff", "💥" * 50, "x" * 300,
    [], [[]], {}, {"a": [{}]}, [None] * 300, "1e400", "null", "../../etc", "{p0}", "%s", "'; DROP", "\r\nFLUSHALL\r\n",
)  # fmt: skip


def valid(rng: random.Random, topic: int, n: int) -> dict:
    key = rng.randrange(500)
    event = {
        "type": ("impression", "feedback")[topic], "imp_id": f"i{key}", "user_id": f"u{key % 40}",
        "item_id": f"m{key % 70}", "ts": NOW + key * 100,
    }  # fmt: skip
    if topic == 0:
        event["features"] = {"age": rng.randrange(90), "genres": ["a", "b"], "price": rng.random()}
    else:
        event["action"] = "like"
    return event


def hostile(rng: random.Random, topic: int, n: int) -> bytes | None:
    """A valid event, or one that was damaged in one of many ways."""
    event = valid(rng, topic, n)
    way = rng.randrange(12)
    if way < 4:
        pass
    elif way == 4:
        event[rng.choice(list(event))] = rng.choice(STRANGE)
    elif way == 5:
        del event[rng.choice(list(event))]
    elif way == 6 and topic == 0:
        event["features"][rng.choice(["age", "genres", "price", "new"])] = rng.choice(STRANGE)
    elif way == 7:
        event["ts"] += rng.choice([-1, 1]) * rng.choice([1, 10**4, 10**6, 10**8, 10**10, 10**12])
    elif way == 8:
        event["extra"] = rng.choice(STRANGE)
    elif way == 9:
        return rng.randbytes(rng.randrange(60)) or None
    raw = json.dumps(event).encode("utf-8", "surrogatepass")
    if way == 10:
        cut = rng.randrange(len(raw))
        return raw[:cut] + rng.randbytes(rng.randrange(4)) + raw[cut + rng.randrange(4) :]
    if way == 11:
        return rng.choice(
            [b"[" * 3000, raw * 2, raw.decode().encode("utf-16"), b"\xde\xff\xff", raw[:-1], b"\x00" + raw]
        )
    return raw


@pytest.mark.parametrize("seed", [1, 2])
def test_every_record_is_applied_a_duplicate_or_a_dead_letter(
    store: StateStore, fields: tuple[FieldSettings, ...], actions: ActionSettings, seed: int, long: bool
) -> None:
    num_records = NUM_RECORDS_LONG if long else NUM_RECORDS
    rng = random.Random(seed)
    buried: list[DeadLetter] = []
    ingest = Ingest(store, fields, actions, EventSettings(), buried.extend)
    ingest.assign(0)
    offsets: Counter[str] = Counter()
    for n in range(0, num_records, 200):
        topic = rng.randrange(2)
        name = TOPICS[topic]
        first = offsets[name]
        records = [LogRecord(first + i, hostile(rng, topic, n + i), 0) for i in range(200)]
        offsets[name] += 200
        ingest.process(name, 0, records, NOW)
        if rng.random() < 0.2:
            ingest.process(name, 0, records[rng.randrange(200) :], NOW)
    end = b'{"type":"heartbeat","ts":%d}' % (NOW + 80_000_000)
    for name in TOPICS:
        ingest.process(name, 0, [LogRecord(offsets[name], end, 0)], NOW)
    counts = Counter(store.fence_counts([0]))
    assert counts["impressions"] + counts["feedback"] + counts["malformed"] == sum(offsets.values())
    assert counts["malformed"] > num_records / 10
    assert len({(d.topic, d.offset) for d in buried}) == counts["malformed"]
    late_impressions = counts["impressions"] - counts["accepted"] - counts["duplicate_impression"]
    late_feedback = counts["feedback"] - counts["matched"] - counts["duplicate_feedback"] - counts["orphan"]
    assert late_impressions >= 0
    assert late_feedback >= 0
    assert late_impressions + late_feedback == counts["late"]
    assert counts["positive"] + counts["negative"] == counts["accepted"]
    assert store.client.xlen(store.keys.dead(0)) == counts["late"] + counts["orphan"]


TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["u1", "i1", "like", "impression", "feedback"]))
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(NOW - 10**6, NOW + 10**6))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.sampled_from(["impression", "feedback", "heartbeat"]), VALUES),
        "imp_id": st.one_of(TEXTS, VALUES),
        "user_id": st.one_of(TEXTS, VALUES),
        "item_id": st.one_of(TEXTS, VALUES),
        "ts": st.one_of(NUMBERS, VALUES),
        "action": st.one_of(st.sampled_from(["like", "click"]), VALUES),
        "features": st.one_of(st.dictionaries(st.sampled_from(["age", "genres", "price"]), VALUES), VALUES),
    },
)
RECORDS = st.one_of(st.binary(max_size=80), EVENTS.map(json.dumps).map(str.encode), st.none())


@given(records=st.lists(st.tuples(st.integers(0, 1), RECORDS), min_size=1, max_size=20))
@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
def test_whatever_bytes_come_each_record_is_counted_once(
    records: list[tuple[int, bytes | None]],
    store: StateStore,
    fields: tuple[FieldSettings, ...],
    actions: ActionSettings,
) -> None:
    store.client.flushdb()
    buried: list[DeadLetter] = []
    ingest = Ingest(store, fields, actions, EventSettings(), buried.extend)
    ingest.assign(0)
    offsets: Counter[str] = Counter()
    for topic, value in records:
        name = TOPICS[topic]
        ingest.process(name, 0, [LogRecord(offsets[name], value, 0)], NOW)
        offsets[name] += 1
    counts = Counter(store.fence_counts([0]))
    counted = counts["impressions"] + counts["feedback"] + counts["heartbeat"] + counts["malformed"]
    assert counted == len(records)
    assert len(buried) == counts["malformed"]
