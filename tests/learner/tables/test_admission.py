"""The admission filter at its real density, where ids share cells."""

import numpy as np
import pytest

from learner.tables import admission
from learner.tables.admission import Admission, admits


def admitted(filter_: Admission, keys: np.ndarray, min_count: int) -> np.ndarray:
    """Whether each occurrence, in turn, is enough."""
    return np.array([admits(filter_.cells_C2, filter_.counters_2, filter_.capacity, key, min_count) for key in keys])


def make_filter(capacity: int) -> Admission:
    return Admission(capacity, np.array([1, 2]))


def test_it_is_never_late_and_seldom_early() -> None:
    rng = np.random.default_rng(1)
    keys = rng.permutation(np.repeat(rng.integers(1, 1 << 62, 4_000).astype(np.uint64), 4))
    seen: dict[int, int] = {}
    due = []
    for key in keys.tolist():
        seen[key] = seen.get(key, 0) + 1
        due.append(seen[key] >= 3)
    got = admitted(make_filter(4_000), keys, 3)
    assert got[due].all()
    assert 0 <= (got & ~np.array(due)).mean() < 0.01


def test_newcomers_are_taken_for_known_once_in_some_hundred() -> None:
    keys = np.arange(1, 40_001, dtype=np.uint64)
    assert admitted(make_filter(20_000), keys, 2).mean() < 0.005


@pytest.mark.parametrize(("gap", "remembered"), [(900, True), (1_998, True), (1_999, False), (2_500, False)])
def test_an_id_is_remembered_until_its_generation_is_thrown_away(
    gap: int, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So wide that no newcomer is taken for another.
    monkeypatch.setattr(admission, "_CELLS_PER_ID", 1 << 12)
    filter_, key = make_filter(1_000), np.array([7], np.uint64)
    # With the id itself, 999 newcomers fill its generation, and 1,000 more the next one.
    assert not admitted(filter_, key, 2)[0]
    admitted(filter_, np.arange(1_000, 1_000 + gap, dtype=np.uint64), 2)
    assert admitted(filter_, key, 2)[0] == remembered


def test_counts_do_not_overflow() -> None:
    got = admitted(make_filter(10), np.full(600, 5, np.uint64), 255)
    assert got.tolist() == [False] * 254 + [True] * 346


def test_memory_is_fixed_and_none_where_nothing_is_counted() -> None:
    assert make_filter(1 << 20).cells_C2.nbytes == 32 << 20
    assert Admission(1 << 20, np.array([1, 1])).cells_C2.nbytes == 2


def test_a_state_holds_cells_in_use_only() -> None:
    there, here = make_filter(5_000), make_filter(5_000)
    keys = np.arange(1, 7_001, dtype=np.uint64)
    admitted(there, keys[:6_000], 3)
    state = there.state()
    assert len(state["cells"]) < 18_100
    here.restore(state)
    np.testing.assert_array_equal(admitted(here, keys, 3), admitted(there, keys, 3))
    np.testing.assert_array_equal(here.cells_C2, there.cells_C2)
