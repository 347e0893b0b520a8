"""Entries of a former version: read as what today's worker makes of the same events."""

import msgspec
import numpy as np
import pytest

from learner.config import FieldSettings
from learner.samples.columns import LayoutError, Samples, decode, no_samples, of_cores
from learner.samples.former import Core, Sample, Shown, State, read_entry
from learner.samples.keys import NO_KEY, value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from state_store.config import ActionSettings
from stream.events import Impression, Served, encode_event
from stream.features import FeatureExtractor, shown_of
from stream.ingest.rows import LogRecord, RowDecoder
from stream.sections import EventSettings

ACTIONS = ActionSettings(("like", "share"))
T0, NOW = 10**12, 2 * 10**12
IMPRESSIONS = [
    Impression(imp_id="a", user_id="u", item_id="i", ts=T0),
    Impression(
        imp_id="b", user_id="ü", item_id="💥", ts=T0 + 1, features={"age": 25, "genres": ["x", "y"], "price": 3}
    ),
    Impression(imp_id="c", user_id="u", item_id="j", ts=T0 + 2, features={"genres": [], "price": -2.5}, position=0),
    Impression(imp_id="d", user_id="v", item_id="j", ts=T0 + 3, features={"genres": "x", "age": ""}, domain="tab"),
    Impression(
        imp_id="e",
        user_id="v",
        item_id="i",
        ts=T0 + 4,
        stage="rank",
        position=7,
        propensity=0.25,
        served=Served(probability=0.125, version=3),
    ),
]
KINDS = [
    (SampleKind.NEGATIVE, 0, -1, 0, 0, 0, None),
    (SampleKind.POSITIVE, 1, 30, 0b01, 0b11, 0, [2.5, None]),
    (SampleKind.CORRECTION, 1, 500, 0b01, 0b01, 0, [None, 7.0]),
    (SampleKind.TASK_CORRECTION, 0, -1, 0b00, 0b10, 1, None),
    (SampleKind.TASK_CORRECTION, 1, -40, 0b10, 0b10, 1, [1.0, 2.0]),
]
STATES = [
    State([0, 0, 0], 0.0, 0, 0, [0, 0, 0], 0.0, 0),
    State([2**32 - 1, 3, 1], 1.25, 7, T0 - 5, [9, 4, 0], 0.5, 6, 0.25),
]


def former_entry(events: list[Impression], said: list[tuple], state: State, fields: tuple[FieldSettings, ...]) -> bytes:
    """As worker and script of the former version wrote it: what is at its default is left out at the end."""
    extract, samples = FeatureExtractor(fields).extract_from, []
    for event, (kind, label, delay, *further) in zip(events, said, strict=True):
        core = (event.imp_id, event.user_id, event.item_id, event.ts, NOW, extract(event))
        shown = shown_of(event)
        counts = list(msgspec.structs.astuple(state)[: 8 if state.negative_rate < 1 else 7])
        rest = further if further != [0, 0, 0, None] else []
        samples.append((int(kind), label, delay, core if shown is None else (*core, shown[:6]), counts, *rest))
    return msgspec.msgpack.encode(samples)


def todays(events: list[Impression], said: list[tuple], state: State, fields: tuple[FieldSettings, ...]) -> Samples:
    """Cores of today's worker, with the same words of the join and the same state."""
    decoder = RowDecoder("impressions", fields, ACTIONS, EventSettings())
    records = [LogRecord(n, encode_event(event), NOW) for n, event in enumerate(events)]
    decoded = decoder.decode("impressions", 0, records, NOW)
    assert decoded.dead == []
    samples = of_cores(decoded.cores, Layout(fields, ACTIONS.names))
    for row, (kind, label, delay, labels, known, task, values) in zip(samples.rows_B, said, strict=True):
        for name, value in (("kind", kind), ("label", label), ("labels", labels), ("known", known), ("task", task)):
            row[name] = value
        row["delay_ms"] = delay
        row["values"] = [np.nan if value is None else value for value in values or [None, None]]
        for name in State.__struct_fields__:
            row[name] = getattr(state, name)
    return samples


@pytest.mark.parametrize("state", STATES, ids=["of nobody", "of somebody"])
@pytest.mark.parametrize("turn", range(len(KINDS)))
def test_a_former_entry_says_what_todays_worker_does(
    fields: tuple[FieldSettings, ...], turn: int, state: State
) -> None:
    said = KINDS[turn:] + KINDS[:turn]
    found = read_entry(former_entry(IMPRESSIONS, said, state, fields), Layout(fields, ACTIONS.names))
    wanted = todays(IMPRESSIONS, said, state, fields)
    assert found.texts == wanted.texts
    assert found.keys_M.tolist() == wanted.keys_M.tolist()
    assert found.rows_B.dtype == wanted.rows_B.dtype
    for name in found.rows_B.dtype.names or ():
        np.testing.assert_array_equal(found.rows_B[name], wanted.rows_B[name], err_msg=name)
    assert found.encode() == wanted.encode()


WRITTEN = bytes.fromhex(
    "dd00000004990000ff96a161a175a26930cf000000e8d4a51000cf000000e8d4a5104d93c0c0c0979400000000ca4010000007009400000000"
    "cb3fd333333333333307000300c09901011e97a162a175a26931cf000000e8d4a51001cf000000e8d4a5104d93a2323592a178a179cb400400"
    "000000000096c0c003c0c0c0979401000000ca4010000007cf000000e8d4a510009400000000000007070093ca40b0000002c099030146"
    "97a163a175a26932cf000000e8d4a51002cf000000e8d4a5104d93c090c096a3746162c0c0c0cb3fd000000000000004979402000000ca4010"
    "000007cf000000e8d4a5100094000000000000020201c0990201cd038596a2c3a9a175a26931cf000000e8d4a51004cf000000e8d4a5104d93"
    "a4f09f92a591a178c0989404000000ca4010000007cf000000e8d4a5100094010000000000ca3f400000010100c0"
)
"""By a former script, with the fields of these tests, the actions like, share and play, and three tasks."""


def test_what_a_former_script_wrote_is_read(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ("like", "share", "play"))
    samples = read_entry(WRITTEN, layout)
    rows = samples.rows_B
    assert samples.imp_ids == ["a", "b", "c", "é"]
    assert samples.item_ids == ["i0", "i1", "i2", "i1"]
    assert samples.texts[3::5] == [None, None, "tab", None]
    assert rows["kind"].tolist() == [KINDS[n][0] for n in (0, 1, 3, 2)]
    assert rows[["label", "labels", "known", "task"]].tolist() == [
        (0, 0, 3, 0),
        (1, 7, 7, 0),
        (1, 2, 2, 1),
        (1, 1, 1, 0),
    ]
    assert rows["delay_ms"].tolist() == [-1, 30, 70, 901]
    np.testing.assert_array_equal(rows["values"][1:3], [[5.5, 2.0, np.nan], [np.nan] * 3])
    assert rows["ts"].tolist() == [T0, T0 + 1, T0 + 2, T0 + 4]
    assert rows["produced_ms"].tolist() == [T0 + 77] * 4
    assert rows["position"].tolist() == [-1, 3, -1, -1]
    assert rows[["served_probability", "served_version"]][2].tolist() == (0.25, 4)
    assert rows["user_counts"].tolist() == [[0] * 4, [1, 0, 0, 0], [2, 0, 0, 0], [4, 0, 0, 0]]
    assert rows["item_counts"][:, 0].tolist() == [0, 0, 0, 1]
    assert rows["user_norm"].tolist() == [2.25] * 4
    np.testing.assert_array_equal(rows["item_norm"], np.array([0.3, 0, 0, 0], np.float32))
    assert rows[["user_norm_version", "item_norm_version"]].tolist() == [(7, 7), (7, 0), (7, 0), (7, 0)]
    assert rows["user_first_ts"].tolist() == [0, T0, T0, T0]
    assert rows["negative_rate"].tolist() == [1, 1, 1, 0.75]
    assert samples.keys_M.tolist() == [value_key("genres", value) for value in "xyx"]
    assert rows["keys"][:, 2].tolist() == [NO_KEY, value_key("age", "25"), NO_KEY, value_key("age", "💥")]


def test_one_reader_takes_both(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS.names)
    former = read_entry(former_entry(IMPRESSIONS, KINDS, STATES[1], fields), layout)
    again = read_entry(former.encode(), layout)
    assert again.encode() == former.encode()
    with pytest.raises(LayoutError):
        read_entry(no_samples(Layout(fields, ("like",))).encode(), layout)


@pytest.mark.parametrize(
    "features",
    [["25", "abc", 1.5], ["25", ["a"], 1.5, "x"], [["a"], ["a"], 1.5], ["25", ["a"], "1.5"], ["25", 1.5]],
    ids=["text for a list", "more", "list for one", "text for a number", "one is missing before the last"],
)
def test_former_values_of_other_fields_are_refused_in_words(fields: tuple[FieldSettings, ...], features: list) -> None:
    """A text that is taken for a list would be looked up letter by letter, and nothing would fail."""
    sample = Sample(SampleKind.NEGATIVE, 0, -1, Core("a", "u", "i", 1, 0, features), STATES[0])
    with pytest.raises(LayoutError, match="fields"):
        read_entry(msgspec.msgpack.encode([sample]), Layout(fields, ACTIONS.names))


def test_of_fields_that_were_declared_behind_them_former_entries_say_nothing(fields: tuple[FieldSettings, ...]) -> None:
    sample = Sample(SampleKind.NEGATIVE, 0, -1, Core("a", "u", "i", 1, 0, ["25"]), STATES[0])
    samples = read_entry(msgspec.msgpack.encode([sample]), Layout(fields, ACTIONS.names))
    assert samples.rows_B["keys"][0, 2] == value_key("age", "25")
    assert (len(samples.keys_M), samples.rows_B["sizes"].tolist()) == (0, [[0]])
    assert np.isnan(samples.rows_B["numbers"]).all()


def test_former_states_of_other_actions_are_refused_in_words(fields: tuple[FieldSettings, ...]) -> None:
    sample = Sample(SampleKind.NEGATIVE, 0, -1, Core("a", "u", "i", 1, 0, ["25", ["a"], 1.5]), STATES[0])
    with pytest.raises(LayoutError, match="actions"):
        read_entry(msgspec.msgpack.encode([sample]), Layout(fields, ("like",)))


def test_nothing_said_of_how_it_was_shown_is_not_said(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS.names)
    samples = [
        Sample(SampleKind.NEGATIVE, 0, -1, Core("a", "u", "i", 1, 0, [None, None, None], shown), STATES[0])
        for shown in (None, Shown())
    ]
    one, other = (read_entry(msgspec.msgpack.encode([sample]), layout).encode() for sample in samples)
    assert one == other
    assert decode(one, layout).texts == ["a", "u", "i", None, None]
