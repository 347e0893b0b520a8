"""What of which field occurs in a sample."""

import numpy as np
import pytest

from learner.config import FieldSettings
from learner.fast.inputs.occurrences import Occurrences, number_key, occurrences_of, plan_of
from learner.samples.columns import concatenate, decode, no_samples
from learner.samples.keys import value_key
from learner.samples.layout import FeatureValue, Layout
from tests.learner.fast.records import FIELDS, changed, make_records, to_samples

PRICE = value_key("price", "")


def key_of(number: float) -> int:
    return int(number_key(np.uint64(PRICE), number))


def bucket_of(number: float) -> int:
    """By hand: halves of octaves of 1 + |x|, mirrored below zero."""
    size = int(np.floor(2 * np.log2(1 + abs(number))))
    return -1 - size if number < 0 else size


def test_they_go_sample_by_sample_and_field_by_field_whatever_is_missing() -> None:
    nothing: list[FeatureValue] = [None, [], None]
    full, other = make_records(2)
    records = [full, changed(full, imp_id="bare", features=nothing), other]
    found = occurrences_of(to_samples(records), plan_of(Layout(FIELDS, ("like",))))
    assert found.sizes_BF.tolist() == [[1, 1, 1, 2, 1], [1, 1, 0, 0, 0], [1, 1, 1, 2, 1]]
    assert found.offsets_B1.tolist() == [0, 6, 8, 14]
    expected: list[tuple[int, int, float]] = []
    for record in records:
        core = record.core
        age, genres, price = core.features
        expected += [(0, value_key("user_id", core.user_id), 1.0), (1, value_key("item_id", core.item_id), 1.0)]
        if age is not None:
            assert isinstance(age, str)
            assert isinstance(genres, list)
            assert isinstance(price, float)
            expected.append((2, value_key("age", age), 1.0))
            expected += [(3, value_key("genres", genre), 0.5) for genre in genres]
            expected.append((4, key_of(price), 1.0))
    assert list(zip(found.fields_N, found.keys_N, found.weights_N, strict=True)) == expected


def test_each_field_may_be_missing_by_itself() -> None:
    """All 2^5 ways, in a layout whose kinds are mixed up, so that columns of a kind are not those of the fields."""
    fields = (
        FieldSettings("price", "item", "numeric"),
        FieldSettings("genres", "item", "multi"),
        FieldSettings("user_id", "user", "id"),
        FieldSettings("tags", "item", "multi"),
        FieldSettings("item_id", "item", "id"),
        FieldSettings("length", "item", "numeric"),
        FieldSettings("age", "user", "categorical"),
    )
    values: list[FeatureValue] = [3.0, ["a", "b", "c"], ["a"], -5.0, "old"]
    records = []
    for way in range(32):
        features: list[FeatureValue] = [value if way >> n & 1 else None for n, value in enumerate(values)]
        records.append(changed(make_records(1)[0], imp_id=str(way), features=features))
    found = occurrences_of(to_samples(records, fields), plan_of(Layout(fields, ("like",))))
    sizes = np.array([1, 3, 1, 1, 1, 1, 1])
    of_feature = [0, 1, 3, 5, 6]
    expected = np.tile(sizes, (32, 1))
    for way in range(32):
        expected[way, [field for n, field in enumerate(of_feature) if not way >> n & 1]] = 0
    assert found.sizes_BF.tolist() == expected.tolist()
    assert found.offsets_B1.tolist() == [0, *np.cumsum(expected.sum(1)).tolist()]
    assert found.fields_N.tolist() == [f for row in expected for f in range(7) for _ in range(row[f])]
    assert found.keys_N.all()
    of_genres = found.fields_N == 1
    assert set(found.keys_N[of_genres].tolist()) == {value_key("genres", name) for name in "abc"}
    assert found.weights_N[of_genres].tolist() == pytest.approx([1 / 3] * int(of_genres.sum()))
    assert set(found.keys_N[found.fields_N == 3].tolist()) == {value_key("tags", "a")}
    assert len(set(found.keys_N[np.isin(found.fields_N, [0, 5])].tolist())) == 2


def assert_same(one: Occurrences, other: Occurrences) -> None:
    for name, column in one._asdict().items():
        np.testing.assert_array_equal(column, getattr(other, name), err_msg=name)


def test_columns_read_from_a_message_and_parts_of_them_give_the_same() -> None:
    layout = Layout(FIELDS, ("like",))
    plan, samples = plan_of(layout), to_samples(make_records(50))
    whole = occurrences_of(samples, plan)
    assert_same(occurrences_of(decode(samples.encode(), layout), plan), whole)
    assert_same(occurrences_of(concatenate([samples.slice(0, 20), samples.slice(20, 50)]), plan), whole)
    later = occurrences_of(samples.slice(20, 50), plan)
    assert later.keys_N.tolist() == whole.keys_N[whole.offsets_B1[20] :].tolist()
    none = occurrences_of(no_samples(layout), plan)
    assert (none.offsets_B1.tolist(), none.sizes_BF.shape, len(none.keys_N)) == ([0], (0, 5), 0)


def test_numbers_of_one_bucket_have_one_key_and_of_two_buckets_two() -> None:
    numbers = [*np.linspace(-50, 50, 2_001), 1e-30, -1e-30, 1e6, -1e6, 3e38, -3e38]
    by_bucket: dict[int, set[int]] = {}
    for number in numbers:
        by_bucket.setdefault(bucket_of(number), set()).add(key_of(number))
    assert all(len(keys) == 1 for keys in by_bucket.values())
    assert len(set().union(*by_bucket.values())) == len(by_bucket) > 20
    assert 0 not in set().union(*by_bucket.values())


def test_buckets_are_ordered_and_few_at_any_scale() -> None:
    magnitudes = np.logspace(-3, 38, 5_000)
    keys = [key_of(number) for number in magnitudes]
    runs = [key for n, key in enumerate(keys) if not n or key != keys[n - 1]]
    # Once left, a bucket does not come back: greater numbers have greater buckets.
    assert len(runs) == len(set(runs)) <= 256
    assert len(set(keys[magnitudes.searchsorted(1e3) : magnitudes.searchsorted(1e6)])) <= 21


def test_zero_is_with_small_positive_numbers_and_signs_are_apart() -> None:
    assert key_of(0.0) == key_of(-0.0) == key_of(0.4)
    assert key_of(0.4) != key_of(-0.4)
    assert key_of(0.4) != key_of(0.5)
    for number in (1.0, 7.0, 1e9):
        assert key_of(number) != key_of(-number)


def test_a_numbers_key_is_its_fields_own() -> None:
    one, other = (np.uint64(value_key(field, "")) for field in ("price", "length"))
    assert {int(number_key(one, x)) for x in (0.0, 3.0, -9.0)}.isdisjoint(
        int(number_key(other, x)) for x in (0.0, 3.0, -9.0)
    )
