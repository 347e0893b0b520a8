"""What compiled code reads is what the decoder of single records reads: rows, cores, dead letters, all of it."""

import json
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from learner.config import FieldSettings
from state_store.config import ActionSettings
from stream.events import Impression, Served, encode_event
from stream.ingest.plain.decoder import PlainDecoder
from stream.ingest.rows import Decoded, LogRecord, RowDecoder
from stream.sections import EventSettings
from tests.stream.ingest.test_hostile import hostile

NOW = 1_700_000_000_000
TOPICS = ("impressions", "feedback")
FIELDS = (
    FieldSettings("user_id", "user", "id"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("item_id", "item", "id"),
    FieldSettings("genres", "item", "multi"),
    FieldSettings("price", "item", "numeric"),
    FieldSettings("farbe", "item", "categorical"),
    FieldSettings("words", "item", "multi"),
    FieldSettings("size", "item", "numeric"),
)
PLACED = (*FIELDS, FieldSettings("position", "context", "numeric"), FieldSettings("domain", "context", "categorical"))
ACTIONS = ActionSettings(names=("like", "buy", "größe"))


class Both:
    """Both decoders, and what they were asked to write elsewhere."""

    def __init__(self, fields: Sequence[FieldSettings] = FIELDS, misplaced: str = "count", num_partitions: int = 4):
        self.moved: list[list[tuple]] = [[], []]
        limits = EventSettings(misplaced=misplaced)
        self.rows, self.plain = (
            of(TOPICS[0], fields, ACTIONS, limits, num_partitions=num_partitions, reroute=self.mover(moved))
            for of, moved in zip((RowDecoder, PlainDecoder), self.moved, strict=True)
        )
        self.num_others = 0
        decode = self.plain._others.decode

        def counted(topic: str, partition: int, records: Sequence[LogRecord], now_ms: int) -> Decoded:
            self.num_others += len(records)
            return decode(topic, partition, records, now_ms)

        self.plain._others.decode = counted  # type: ignore[method-assign]

    @staticmethod
    def mover(moved: list[tuple]) -> Callable[..., None]:
        return lambda *what: moved.append(what)

    def check(self, values: Sequence[bytes | None], topic: int = 0, partition: int = 1) -> int:
        """Compare all that is said of records; returns how many of them were not plain."""
        records = [LogRecord(7 + 2 * n, value, NOW - n if n % 3 else None) for n, value in enumerate(values)]
        before = self.num_others
        expected = self.rows.decode(TOPICS[topic], partition, records, NOW)
        found = self.plain.decode(TOPICS[topic], partition, records, NOW)
        assert list(found.rows) == list(expected.rows)
        assert [type(value) for row in found.rows for value in row] == [
            type(value) for row in expected.rows for value in row
        ]
        assert b"".join(found.cores) == b"".join(expected.cores)
        assert (found.dead, found.num_misplaced) == (expected.dead, expected.num_misplaced)
        assert self.moved[0] == self.moved[1]
        return self.num_others - before


WORDS = st.text(max_size=20) | st.text("abcäß漢 -_./", max_size=140)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9)
VALUES = st.none() | st.booleans() | WORDS | NUMBERS | st.lists(WORDS | NUMBERS | st.none(), max_size=5) | st.just({})
FEATURES = st.dictionaries(
    st.sampled_from([field.name for field in PLACED] + ["other", "ages", "ag"]), VALUES, max_size=8
)
SHARES = st.floats(0, 1) | st.sampled_from([0, 1, 2, -1, 1e-9])
SERVED = st.fixed_dictionaries(
    {"probability": SHARES},
    optional={
        "version": st.integers(-1, 2**54),
        "arm": st.text(max_size=70),
        "canary": st.booleans(),
        "other": SHARES | st.none(),
        "other_version": st.integers(0, 2**54),
        "more": VALUES,
    },
)
IDS = st.text(min_size=1, max_size=5) | st.text("abc-09", max_size=135)
TIMES = st.integers(NOW - 10**6, NOW) | st.integers(-1, 2**54) | st.floats(0, NOW) | st.just(NOW + 10**9)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["impression", "impression", "feedback", "feedback", "heartbeat", "other"])},
    optional={
        "imp_id": IDS,
        "user_id": IDS,
        "item_id": IDS,
        "action": st.sampled_from([*ACTIONS.names, "other", ""]),
        "ts": TIMES,
        "features": FEATURES | st.none(),
        "value": NUMBERS | st.none(),
        "domain": st.text(max_size=4) | st.none(),
        "stage": st.text(max_size=4) | st.none(),
        "position": st.integers(-1, 2**21) | st.none(),
        "propensity": SHARES | st.none(),
        "served": SERVED | st.none(),
        "more": VALUES,
    },
)
WHOLE = {"type": "impression", "imp_id": "i", "user_id": "u", "item_id": "m", "action": "like", "ts": NOW}


MARKS = [b'"', b",", b"}", b"\\"]


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """An event as JSON: most are well, in any order and with any white space; some were damaged."""
    event = {**WHOLE, **draw(EVENTS)} if draw(st.integers(0, 3)) else draw(EVENTS)
    keys = draw(st.permutations(list(event)))
    space = draw(st.sampled_from(["", "", " ", "\n\t"]))
    text = json.dumps(
        {key: event[key] for key in keys},
        ensure_ascii=draw(st.booleans()),
        separators=("," + space, ":" + space),
    )
    data = bytearray((space + text + space).encode("utf-8", "replace"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=2) | st.sampled_from([b'"', b",", b"}", b"\\"])
        )
    return bytes(data)


@pytest.mark.parametrize("misplaced", ["count", "refuse", "reroute"])
@given(st.lists(texts() | st.none() | st.binary(max_size=5), max_size=8), st.integers(0, 1), st.booleans())
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([b"{}", b'{"type":"heartbeat","ts":1700000000000}', b""], 0, False)
@example([b'{"type":"impression","imp_id":"a","user_id":"\xc3', b'\xa4","item_id":"m","ts":1700000000000}'], 0, False)
def test_every_batch_is_read_alike(misplaced: str, values: list[bytes | None], topic: int, is_placed: bool) -> None:
    Both(PLACED if is_placed else FIELDS, misplaced).check(values, topic)


@pytest.mark.parametrize("topic", [0, 1])
def test_hostile_records_are_read_alike(topic: int) -> None:
    rng, both = random.Random(3), Both()
    for _ in range(40):
        both.check([hostile(rng, topic, n) for n in range(100)], topic)


def impression(n: int, **more: object) -> dict[str, object]:
    return {
        "type": "impression",
        "imp_id": f"i{n}",
        "user_id": f"u{n % 7}",
        "item_id": f"m{n % 5}",
        "ts": NOW - n,
        **more,
    }


def test_what_producers_usually_write_is_plain() -> None:
    both = Both()
    features = {
        "age": 25,
        "genres": ["Drama", "Krieg", 7],
        "price": 12.99,
        "farbe": "grün",
        "size": -3,
        "more": [1, "x"],
    }
    served = {"probability": 0.1234567890123456, "version": 17, "arm": "wide", "canary": True, "other": 0.25}
    shown = {"domain": "app", "stage": "ranking", "position": 3, "propensity": 0.0625, "served": served}
    events = [impression(n, features=features) for n in range(50)]
    events += [impression(n, features={}, **shown) for n in range(50)]
    events += [impression(n, session="s", scores=[0.5, None, True], domain=None, served=None) for n in range(50)]
    encoded = [json.dumps(event, ensure_ascii=False).encode() for event in events]
    encoded += [encode_event(Impression(imp_id="a", user_id="u", item_id="i", ts=NOW, served=Served(probability=0.5)))]
    assert both.check(encoded) == 0
    feedback = [
        {"type": "feedback", "imp_id": f"i{n}", "user_id": "u", "item_id": "m", "ts": NOW - n, "action": action} | more
        for n in range(20)
        for action in ACTIONS.names
        for more in ({}, {"value": 2.5}, {"value": None}, {"value": -17})
    ]
    assert both.check([json.dumps(event, ensure_ascii=False).encode() for event in feedback], 1) == 0


def test_one_strange_record_does_not_slow_its_batch_down() -> None:
    events = [json.dumps(impression(n, features={"age": "a"})).encode() for n in range(100)]
    escaped = json.dumps(impression(0, features={"farbe": 'a "quote"', "genres": ["ü"]})).encode()
    nested = json.dumps(impression(0, context={"a": {"b": 1}})).encode()
    assert Both().check([*events[:30], escaped, *events[30:60], nested, b"broken", *events[60:], None]) == 4


def test_a_batch_with_bytes_that_are_no_text_is_read_all_the_same() -> None:
    events = [json.dumps(impression(n)).encode() for n in range(20)]
    strange = json.dumps(impression(0, features={"farbe": "grün"}), ensure_ascii=False).encode()
    assert Both().check([*events, b"\xff\xfe", strange]) == 2
