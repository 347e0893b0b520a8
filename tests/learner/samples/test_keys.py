"""Keys of values: what makes two of them differ, and that what is remembered of them changes none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.samples import keys
from learner.samples.keys import NO_KEY, KeyCache, value_key

NAMES = st.sampled_from(["user_id", "item_id", "genres", "Land", "é"])


def packed(field: str, values: list[str]) -> bytes:
    return b"".join(value_key(field, value).to_bytes(8, "little") for value in values)


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [
        ("user_id", "17", 0x2A1D530584500692),
        ("item_id", "17", 0x4D303FF6D636032F),
        ("price", "", 0xE22192CB6C353DB8),
        ("genres", "Film-Noir", 0x7CD7461A108F212D),
        ("land", "Österreich 🏔", 0x61B5F6A0EEB81C68),
    ],
)
def test_the_definition_is_that_of_all_data_that_is_stored(field: str, value: str, key: int) -> None:
    """Whoever changes it loses every row that was learned, and every sample that waits."""
    assert value_key(field, value) == key


@given(fields=st.lists(NAMES, min_size=2, max_size=2, unique=True), values=st.lists(st.text(), min_size=2, unique=True))
def test_field_and_value_both_matter(fields: list[str], values: list[str]) -> None:
    found = {value_key(field, value) for field in fields for value in values}
    assert len(found) == len(fields) * len(values)


def test_a_name_and_a_value_do_not_run_into_one_another() -> None:
    assert value_key("ab", "c") != value_key("a", "bc")
    assert value_key("ab", "") != value_key("", "ab")


@given(field=st.text(), value=st.text())
def test_a_key_is_64_bits_and_not_that_of_nothing(field: str, value: str) -> None:
    assert NO_KEY < value_key(field, value) < 1 << 64


def test_a_value_whose_hash_is_zero_has_a_key_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "xxh3_64_intdigest", lambda *data: 0)
    assert value_key("a field of its own", "x") == 1
    assert KeyCache("a field of its own").packed(["x"]) == (1).to_bytes(8, "little")


@pytest.mark.parametrize("limit", [0, 1, 3, 1 << 16])
@given(field=NAMES, lists=st.lists(st.lists(st.text("abc", max_size=2), max_size=6), max_size=12))
def test_what_is_remembered_agrees_also_when_there_is_no_room(limit: int, field: str, lists: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_MAX_CACHED", limit)
        cache = KeyCache(field)
        for values in lists:
            assert cache.packed(values) == packed(field, values)
            assert [cache.key(value) for value in values] == [value_key(field, value) for value in values]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_MAX_CACHED", 10)
    cache = KeyCache("genres")
    for n in range(100):
        cache.key(f"a{n}")
        cache.packed([f"b{n}", f"c{n}", f"d{n}"])
        assert len(cache._known) <= 10
        assert len(cache._known_bytes) <= 10 + 2, "the values of one list stay together"


def test_long_values_are_not_kept() -> None:
    cache = KeyCache("genres")
    short, long = "x" * keys._LONGEST_CACHED, "x" * (keys._LONGEST_CACHED + 1)
    for value in (short, long):
        assert cache.key(value) == value_key("genres", value)
        assert cache.packed([value]) == packed("genres", [value])
    assert (set(cache._known), set(cache._known_bytes)) == ({short}, {short})


def test_values_that_come_again_cost_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KeyCache("genres")
    before = cache.key("a"), cache.packed(["a", "b"])
    monkeypatch.setattr(keys, "value_key", None)
    assert (cache.key("a"), cache.packed(["a", "b"])) == before
