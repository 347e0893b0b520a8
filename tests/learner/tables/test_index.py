"""The index against a dict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.tables.hashing import cross_key, mix, normal
from learner.tables.index import Index


@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_dict_through_growth_and_removals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index, model = Index(), dict[int, int]()
    # Few keys, so that removed ones come back; and with equal low bits, which must not make one long run.
    pool = rng.integers(1, 1 << 40, 6_000).astype(np.uint64) << np.uint64(16 * (seed % 2))
    for turn in range(300):
        new = [key for key in dict.fromkeys(rng.choice(pool, 40).tolist()) if key not in model]
        rows = rng.integers(1, 1 << 31, len(new))
        index.insert(np.array(new, np.uint64), rows.astype(np.int32))
        model |= dict(zip(new, rows.tolist(), strict=True))
        for key in rng.choice(pool, 10 + 60 * (turn % 7 == 0)).tolist():
            assert index.remove(key) == model.pop(key, 0)
        assert len(index) == len(model)
    assert len(index.keys_S) > 1024
    assert index.find(pool).tolist() == [model.get(key, 0) for key in pool.tolist()]
    assert np.count_nonzero(index.keys_S) == len(model)
    assert len(model) / len(index.keys_S) <= 0.6


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=60))
def test_a_removal_leaves_every_other_key_where_it_is_found(steps: list[tuple[bool, int]]) -> None:
    index, model = Index(), dict[int, int]()
    # Eight slots make the runs wrap around the end.
    index.keys_S, index.rows_S = np.zeros(32, np.uint64), np.zeros(32, np.int32)
    for row, (is_new, key) in enumerate(steps, start=1):
        if is_new and key not in model:
            index.insert(np.array([key], np.uint64), np.array([row], np.int32))
            model[key] = row
        elif not is_new:
            assert index.remove(key) == model.pop(key, 0)
        assert index.find(np.arange(13, dtype=np.uint64)).tolist() == [model.get(k, 0) for k in range(13)]


def test_numbering_does_not_depend_on_how_the_keys_are_cut() -> None:
    keys = np.random.default_rng(1).integers(0, 3_000, 20_000).astype(np.uint64)
    whole, cut = Index(), Index()
    expected: dict[int, int] = {0: 0}
    for key in keys.tolist():
        expected.setdefault(key, len(expected))
    assert whole.find_or_number(keys).tolist() == [expected[key] for key in keys.tolist()]
    assert np.concatenate([cut.find_or_number(part) for part in np.array_split(keys, 77)]).tolist() == [
        expected[key] for key in keys.tolist()
    ]


def test_no_value_has_no_row() -> None:
    index = Index()
    assert index.find_or_number(np.array([0, 3, 0], np.uint64)).tolist() == [0, 1, 0]
    assert index.find(np.zeros(2, np.uint64)).tolist() == [0, 0]
    assert index.remove(0) == 0
    assert len(index) == 1


def test_mixing_and_crossing_do_not_collide_where_they_must_not() -> None:
    keys = np.arange(1, 3_001, dtype=np.uint64)
    assert len({int(mix(key)) for key in keys}) == len(keys)
    a, b, c = np.uint64(1), np.uint64(2), np.uint64(3)
    crosses = {int(cross_key(x, y, salt)) for x in (a, b, c) for y in (a, b, c) for salt in (a, b)}
    assert len(crosses) == 18
    assert 0 not in crosses
    assert cross_key(np.uint64(0), a, b) == cross_key(a, np.uint64(0), b) == 0


def test_normal_values_are_normal_and_depend_on_key_seed_and_coordinate_alone() -> None:
    values = np.array([[normal(np.uint64(key), np.uint64(5), d) for d in range(8)] for key in range(5_000)])
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.02)
    assert (values**4).mean() == pytest.approx(3, abs=0.15)
    assert np.abs(np.corrcoef(values.T) - np.eye(8)).max() < 0.06
    assert np.abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.06
    again = [normal(np.uint64(17), np.uint64(5), d) for d in range(8)]
    assert again == values[17].tolist()
    assert [normal(np.uint64(17), np.uint64(6), d) for d in range(8)] != again
