"""The layout of columns: when it is another one, and what of an impression it holds."""

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from learner.config import FieldSettings
from learner.samples.keys import NO_KEY, value_key
from learner.samples.layout import CORE_HEAD, MAGIC, Layout

ACTIONS = ("like", "share")
GENRES, PRICE = 3, 4


def replaced(fields: tuple[FieldSettings, ...], place: int, **change: Any) -> tuple[FieldSettings, ...]:
    return (*fields[:place], msgspec.structs.replace(fields[place], **change), *fields[place + 1 :])


@pytest.mark.parametrize(
    "change",
    [
        lambda fields, actions: (replaced(fields, GENRES, name="tags"), actions),
        lambda fields, actions: (replaced(fields, GENRES, kind="categorical"), actions),
        lambda fields, actions: (replaced(fields, 2, kind="id"), actions),
        lambda fields, actions: ((*fields[:3], fields[4], fields[3]), actions),
        lambda fields, actions: (fields[:-1], actions),
        lambda fields, actions: ((*fields, FieldSettings("land", "context", "categorical")), actions),
        lambda fields, actions: (fields, actions[:1]),
        lambda fields, actions: (fields, (*actions, "play")),
        lambda fields, actions: (fields, actions[::-1]),
        lambda fields, actions: (fields, ("like", "buy")),
    ],
    ids=["name", "kind", "id or categorical", "order", "fewer", "more", "fewer actions", "more actions",
         "order of actions", "name of an action"],
)  # fmt: skip
def test_columns_that_mean_something_else_have_another_tag(fields: tuple[FieldSettings, ...], change: Any) -> None:
    assert Layout(*change(fields, ACTIONS)).tag != Layout(fields, ACTIONS).tag


@pytest.mark.parametrize("change", [{"group": "context"}, {"min_count": 7}, {"state": True}], ids=str)
def test_what_only_the_learner_makes_of_a_field_changes_no_column(
    fields: tuple[FieldSettings, ...], change: dict[str, Any]
) -> None:
    assert Layout(replaced(fields, 2, **change), ACTIONS).tag == Layout(fields, ACTIONS).tag


def test_tag_and_columns_are_those_of_all_samples_that_wait(fields: tuple[FieldSettings, ...]) -> None:
    """Whoever changes them gives the layout another version, or samples that wait are misread."""
    layout = Layout(fields, ACTIONS)
    assert (layout.tag, MAGIC, CORE_HEAD.size) == (2133212042, b"CSC1", 13)
    one_byte = [(name, "|u1") for name in ("kind", "label", "labels", "known", "task")]
    assert layout.dtype.descr == [
        *one_byte,
        ("delay_ms", "<f8"),
        ("values", "<f8", (2,)),
        ("ts", "<i8"),
        ("produced_ms", "<i8"),
        ("imp_key", "<u8"),
        ("position", "<i4"),
        ("propensity", "<f8"),
        ("served_probability", "<f8"),
        ("served_version", "<i8"),
        ("served_arm", "<u8"),
        ("served_canary", "|u1"),
        ("served_other", "<f8"),
        ("keys", "<u8", (3,)),
        ("numbers", "<f4", (1,)),
        ("sizes", "<u2", (1,)),
        ("user_counts", "<u4", (3,)),
        ("user_norm", "<f4"),
        ("user_norm_version", "<u4"),
        ("user_first_ts", "<f8"),
        ("user_last_ts", "<f8"),
        ("item_counts", "<u4", (3,)),
        ("item_norm", "<f4"),
        ("item_norm_version", "<u4"),
        ("negative_rate", "<f8"),
    ]


def test_what_an_impression_says_has_its_place(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS)
    shown = ("tab", None, 3, 0.25, 0.5, 9, "wide", True, 0.75)
    core = layout.pack_core("imp", "u", "ï", (1000, 77), ["25", ["a", "b"], 1.5], shown)
    tag, text_size, keys_size = CORE_HEAD.unpack_from(core)[:3]
    text, keys, fixed = np.split(np.frombuffer(core[CORE_HEAD.size :], "u1"), [text_size, text_size + keys_size])
    assert tag == layout.tag
    assert msgspec.msgpack.decode(b"\x95" + text.tobytes()) == ["imp", "u", "ï", "tab", None]
    assert keys.tobytes() == struct.pack("<QQ", value_key("genres", "a"), value_key("genres", "b"))
    assert struct.unpack("<qqQiddqQBdQQQfH", fixed.tobytes()) == (
        *(1000, 77, xxh3_64_intdigest(b"imp"), 3, 0.25, 0.5, 9, xxh3_64_intdigest(b"wide"), 1, 0.75),
        *(value_key(*of) for of in (("user_id", "u"), ("item_id", "ï"), ("age", "25"))),
        *(1.5, 2),
    )
    assert len(fixed) == layout.core_size
    assert layout.dtype.fields is not None
    assert layout.core_offset + layout.core_size == layout.dtype.fields["user_counts"][1]


def test_what_it_does_not_say_is_told_from_what_it_says(fields: tuple[FieldSettings, ...]) -> None:
    layout = Layout(fields, ACTIONS)
    core = layout.pack_core("imp", "u", "i", (1000, 0), [None, None, None])
    ts, produced, _, position, propensity, probability, version, arm, canary, other, *rest = struct.unpack(
        "<qqQiddqQBdQQQfH", core[-layout.core_size :]
    )
    assert (ts, produced, position, version, arm, canary) == (1000, 0, -1, -1, 0, 0)
    assert np.isnan([propensity, probability, other, rest[3]]).all()
    assert (rest[2], rest[4]) == (NO_KEY, 0)
    zero = layout.pack_core("imp", "u", "i", (1000, 0), ["", [""], 0.0], (None, None, 0, 0.0, 0.0, 0, "", False, 0.0))
    assert struct.unpack("<iddqQBd", zero[-layout.core_size :][24:69]) == (0, 0.0, 0.0, 0, 0, 0, 0.0)
    assert struct.unpack("<QfH", zero[-14:]) == (value_key("age", ""), 0.0, 1)


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [4, 3, 2, 1, 0], [3, 1, 4, 2, 0]])
def test_ids_are_found_wherever_they_are_declared(fields: tuple[FieldSettings, ...], order: list[int]) -> None:
    declared = [fields[n] for n in order]
    values = {"age": "25", "genres": ["a", "b"], "price": 1.5}
    layout = Layout(declared, ACTIONS)
    core = layout.pack_core("imp", "u", "i", (1, 0), [values[f.name] for f in declared if f.name in values])
    keys = np.frombuffer(core[-layout.core_size :], "<u8", 3, 69)
    said = {"user_id": "u", "item_id": "i", "age": "25"}
    assert keys.tolist() == [value_key(f.name, said[f.name]) for f in declared if f.name in said]
    assert keys[layout.user_column] == value_key("user_id", "u")
    assert keys[layout.item_column] == value_key("item_id", "i")


def test_a_layout_is_described_by_all_that_its_tag_is_of(fields: tuple[FieldSettings, ...]) -> None:
    said = Layout(fields, ACTIONS).describe()
    assert f"{Layout(fields, ACTIONS).tag:08x}" in said
    assert all(f"{field.name} ({field.kind})" in said for field in fields)
    assert all(action in said for action in ACTIONS)
