"""Blocks of columns, against a list of samples one by one."""

import struct
from itertools import accumulate

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.columns import records_of

from learner.config import FieldSettings
from learner.samples.columns import LayoutError, Samples, blocks, concatenate, decode, no_samples, of_cores
from learner.samples.former import Core, Sample, Shown, State, to_columns
from learner.samples.keys import NO_KEY, value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import HEADER, MAGIC, Layout

FIELDS = (
    FieldSettings("genres", "item", "multi"),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("price", "item", "numeric"),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("tags", "item", "multi"),
    FieldSettings("user_id", "user", "id", state=True),
)
LAYOUT = Layout(FIELDS, ("like", "share"))
BARE = Layout([field for field in FIELDS if field.kind == "id"], ("like",))

TEXTS = st.text(max_size=8)
OFTEN_NONE = lambda values: st.one_of(st.none(), values)  # noqa: E731
SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLE = st.floats(allow_nan=False)
COUNTS = st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3)
TIMES = st.integers(0, 2**53)
SHOWN = st.builds(
    Shown,
    OFTEN_NONE(TEXTS),
    OFTEN_NONE(TEXTS),
    OFTEN_NONE(st.integers(0, 1 << 20)),
    OFTEN_NONE(DOUBLE),
    OFTEN_NONE(DOUBLE),
    OFTEN_NONE(st.integers(0, 2**53)),
)
CORES = st.builds(
    Core,
    TEXTS,
    TEXTS,
    TEXTS,
    TIMES,
    TIMES,
    st.tuples(
        OFTEN_NONE(st.lists(TEXTS, max_size=5)),
        OFTEN_NONE(SINGLE),
        OFTEN_NONE(TEXTS),
        OFTEN_NONE(st.lists(TEXTS, max_size=2)),
    ).map(list),
    OFTEN_NONE(SHOWN),
)
STATES = st.builds(State, COUNTS, SINGLE, st.integers(0, 2**32 - 1), TIMES, COUNTS, SINGLE, st.integers(0, 9), DOUBLE)
SAMPLES = st.builds(
    Sample,
    st.sampled_from(SampleKind),
    st.integers(0, 1),
    st.integers(-(2**53), 2**53),
    CORES,
    STATES,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 7),
    OFTEN_NONE(st.lists(OFTEN_NONE(DOUBLE), min_size=2, max_size=2)),
)
LISTS = st.lists(SAMPLES, min_size=1, max_size=20)


def expected(sample: Sample) -> Sample:
    """What is left of a sample in columns: of features their keys and numbers."""
    genres, price, age, tags = sample.core.features
    known = [
        [value_key("genres", value) for value in genres or []],
        float("nan") if price is None else price,
        NO_KEY if age is None else value_key("age", age),
        [value_key("tags", value) for value in tags or []],
    ]
    shown = None if sample.core.shown == Shown() else sample.core.shown
    core = msgspec.structs.replace(sample.core, features=known, shown=shown)
    values = None if sample.values == [None, None] else sample.values
    return msgspec.structs.replace(sample, core=core, values=values)


def as_listed(samples: Samples) -> list[str]:
    """One by one, as text: a missing number equals a missing number."""
    return list(map(str, records_of(samples)))


def is_whole(samples: Samples) -> bool:
    """Whether keys and texts are those of its rows, no more and no fewer."""
    return len(samples.keys_M) == samples.key_bounds[-1] and len(samples.texts) == 5 * len(samples)


@given(listed=LISTS)
def test_samples_come_back_as_they_went(listed: list[Sample]) -> None:
    made = to_columns(listed, LAYOUT)
    entry = made.encode()
    back = decode(entry, LAYOUT)
    assert as_listed(back) == [str(expected(sample)) for sample in listed]
    assert is_whole(back)
    assert back.encode() == entry
    assert entry.startswith(MAGIC)
    assert back.rows_B.tobytes() == made.rows_B.tobytes()


@given(
    listed=LISTS, ends=st.tuples(st.integers(0, 25), st.integers(0, 25)), chosen=st.lists(st.booleans(), min_size=20)
)
def test_parts_are_those_of_a_list(listed: list[Sample], ends: tuple[int, int], chosen: list[bool]) -> None:
    samples, model = to_columns(listed, LAYOUT), [str(expected(sample)) for sample in listed]
    start, stop = sorted((min(ends[0], len(listed)), ends[1]))
    chosen_B = np.array(chosen[: len(listed)])
    several = chosen_B.nonzero()[0]
    for part, wanted in (
        (samples.slice(start, stop), model[start:stop]),
        (samples.take(chosen_B), [model[n] for n in several]),
        (samples.slice(start, stop).take(chosen_B[start:stop]), [model[n] for n in several if start <= n < stop]),
    ):
        assert len(part) == len(wanted)
        assert as_listed(part) == wanted
        assert is_whole(part)
        assert as_listed(decode(part.encode(), LAYOUT)) == wanted


@given(lists=st.lists(st.lists(SAMPLES, max_size=5), min_size=1, max_size=5), size=st.integers(1, 6))
def test_blocks_are_put_together_and_taken_apart(lists: list[list[Sample]], size: int) -> None:
    parts = [to_columns(listed, LAYOUT) if listed else no_samples(LAYOUT) for listed in lists]
    model = [str(expected(sample)) for listed in lists for sample in listed]
    whole = concatenate(parts)
    assert as_listed(whole) == model
    assert is_whole(whole)
    assert as_listed(decode(whole.encode(), LAYOUT)) == model
    cut = list(blocks(whole, size))
    assert [len(part) for part in cut[:-1]] == [size] * (len(cut) - 1)
    assert [text for part in cut for text in as_listed(part)] == model
    assert all(map(is_whole, cut))


@pytest.mark.parametrize("num", [1, 2, 3, 4, 13_107, 13_108, 20_000])
def test_entries_of_any_number_of_texts_are_read(num: int) -> None:
    """msgpack marks arrays of up to 15, of up to 65,535 and of more texts differently."""
    cores = [BARE.pack_core(f"imp{n}", "u", "i", (n, 0), []) for n in range(num)]
    back = decode(of_cores(cores, BARE).encode(), BARE)
    assert back.imp_ids == [f"imp{n}" for n in range(num)]
    assert back.rows_B["ts"].tolist() == list(range(num))


@pytest.mark.parametrize("layout", [LAYOUT, BARE], ids=["all kinds of fields", "ids alone"])
def test_no_samples_are_a_block_like_others(layout: Layout) -> None:
    made = to_columns([], layout)
    core = layout.pack_core("imp", "u", "i", (1, 0), [None] * (len(layout.fields) - 2))
    one = of_cores([core], layout)
    for none in (
        no_samples(layout),
        made,
        of_cores([], layout),
        decode(no_samples(layout).encode(), layout),
        one.slice(0, 0),
        one.slice(1, 5),
        one.take(np.array([False])),
        no_samples(layout).take(np.zeros(0, bool)),
    ):
        assert (len(none), len(none.keys_M), none.texts) == (0, 0, [])
        assert (none.imp_ids, none.user_keys.tolist(), none.is_learned.tolist()) == ([], [], [])
        assert none.key_bounds.tolist() == [0]
        assert list(blocks(none, 3)) == []
        assert none.encode() == no_samples(layout).encode()
        for together in (concatenate([none, one]), concatenate([one, none])):
            assert as_listed(together) == as_listed(one)
            assert is_whole(together)


@given(cores=st.lists(CORES, max_size=6))
def test_of_what_impressions_say_the_rest_is_zero(cores: list[Core]) -> None:
    packed = [
        LAYOUT.pack_core(
            core.imp_id,
            core.user_id,
            core.item_id,
            (core.ts, core.produced_ms),
            core.features,
            core.shown and (*msgspec.structs.astuple(core.shown), None, None, None),
        )
        for core in cores
    ]
    samples = of_cores(packed, LAYOUT)
    assert samples.texts[0::5] == [core.imp_id for core in cores]
    assert samples.texts[3::5] == [core.shown and core.shown.domain for core in cores]
    assert samples.user_ids == [core.user_id for core in cores]
    assert samples.item_ids == [core.item_id for core in cores]
    assert samples.user_keys.tolist() == [value_key("user_id", core.user_id) for core in cores]
    assert samples.item_keys.tolist() == [value_key("item_id", core.item_id) for core in cores]
    assert samples.rows_B["ts"].tolist() == [core.ts for core in cores]
    sizes = [len(core.features[0] or []) + len(core.features[3] or []) for core in cores]
    assert samples.key_bounds.tolist() == [0, *accumulate(sizes)]
    assert LAYOUT.dtype.names is not None
    at = LAYOUT.dtype.names.index("ts"), LAYOUT.dtype.names.index("user_counts")
    assert not any(samples.rows_B[name].any() for name in LAYOUT.dtype.names[: at[0]] + LAYOUT.dtype.names[at[1] :])
    samples.rows_B["label"] = 1  # the join's words are put in by whoever has them


def test_the_model_learns_from_labels_of_the_main_task_and_from_what_settles_them() -> None:
    core = BARE.pack_core("imp", "u", "i", (1, 0), [])
    samples = of_cores([core] * len(SampleKind), BARE)
    samples.rows_B["kind"] = list(SampleKind)
    learned, labelled = (
        {kind for kind, chosen in zip(SampleKind, chosen_B, strict=True) if chosen}
        for chosen_B in (samples.is_learned, samples.is_labelled)
    )
    assert labelled == {SampleKind.NEGATIVE, SampleKind.POSITIVE, SampleKind.CORRECTION}
    assert learned == labelled | {SampleKind.SETTLED}


def test_an_entry_is_laid_out_as_is_written() -> None:
    core = LAYOUT.pack_core("imp", "u", "i", (5, 6), [["a"], 2.0, None, ["b", "c"]])
    entry = of_cores([core, core], LAYOUT).encode()
    magic, tag, num, text_size, keys_size = HEADER.unpack_from(entry)
    assert (magic, tag, num, keys_size) == (b"CSC1", LAYOUT.tag, 2, 2 * 3 * 8)
    texts, keys, rows = (entry[at:] for at in accumulate((HEADER.size, text_size, keys_size)))
    assert msgspec.msgpack.decode(b"\x9a" + texts[:text_size]) == ["imp", "u", "i", None, None] * 2
    of_one = [value_key("genres", "a"), value_key("tags", "b"), value_key("tags", "c")]
    assert list(struct.unpack("<6Q", keys[:keys_size])) == of_one * 2
    assert len(rows) == 2 * LAYOUT.dtype.itemsize


def test_another_layout_is_refused_in_words() -> None:
    entry = no_samples(BARE).encode()
    with pytest.raises(LayoutError) as caught:
        decode(entry, LAYOUT)
    said = str(caught.value)
    assert f"{BARE.tag:08x}" in said, "the layout that they are of"
    assert f"{LAYOUT.tag:08x}" in said, "the layout that the settings say"
    assert all(f"{field.name} ({field.kind})" in said for field in FIELDS)
    assert all(
        word in said for word in ("[[fields]]", "[actions]", "like, share", "start the learner with the settings")
    )


@pytest.mark.parametrize("change", [lambda entry: entry + b"\0" * 8, lambda entry: entry[:-1]], ids=["longer", "cut"])
def test_rows_of_another_length_are_not_read(change: object) -> None:
    """As when a script packs one value per action, and there are more actions than the layout has."""
    core = BARE.pack_core("imp", "u", "i", (1, 0), [])
    entry = of_cores([core], BARE).encode()
    with pytest.raises(LayoutError, match="an entry of 1 samples has"):
        decode(change(entry), BARE)  # type: ignore[operator]
