"""Exact search, recall and NDCG against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.retrieval.ranking import ndcg, recall, relevant_of
from learner.retrieval.search import exact_top


def brute_force(query: np.ndarray, items: np.ndarray, num: int, without: set[int]) -> list[int]:
    scores = [(-float(query @ item), n) for n, item in enumerate(items) if n not in without]
    found = [n for _, n in sorted(scores)[:num]]
    return found + [-1] * (num - len(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 30), st.integers(1, 5))
def test_the_best_are_found_whatever_ties_there_are(seed: int, num: int, num_items: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, so that products are exact and ties are many.
    queries, items = rng.integers(-1, 2, (7, 3)).astype(np.float32), rng.integers(-1, 2, (num_items, 3))
    without = [rng.choice(num_items, rng.integers(num_items + 1), replace=False) for _ in queries]
    found, scores = exact_top(queries, items.astype(np.float32), num, without=without, block=block)
    for q, query in enumerate(queries):
        assert found[q].tolist() == brute_force(query, items, num, set(without[q].tolist()))
        assert scores[q].tolist() == [float(query @ items[n]) if n >= 0 else -math.inf for n in found[q]]


def test_what_cannot_be_searched_is_said() -> None:
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match="N must be 1 or more"):
        exact_top(one, one, 0)
    with pytest.raises(ValueError, match="user vectors have 2 numbers, item vectors 3"):
        exact_top(one, np.ones((4, 3)), 1)
    with pytest.raises(ValueError, match="not finite"):
        exact_top(one, np.array([[1.0, np.nan]]), 1)


def test_recall_and_ndcg_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    for num in (1, 3, 10):
        found = np.stack([rng.choice(20, num, replace=False) for _ in range(50)])
        found[0, -1] = -1
        relevant = [rng.choice(20, rng.integers(0, 6), replace=False) for _ in range(50)]
        for q, (recalled, gained) in enumerate(zip(recall(found, relevant), ndcg(found, relevant), strict=True)):
            mine = set(relevant[q].tolist())
            if not mine:
                assert np.isnan([recalled, gained]).all()
                continue
            hit = [item in mine for item in found[q].tolist()]
            ideal = sum(1 / math.log2(1 + r) for r in range(1, min(num, len(mine)) + 1))
            assert recalled == pytest.approx(sum(hit) / len(mine))
            assert gained == pytest.approx(sum(h / math.log2(1 + r) for r, h in enumerate(hit, 1)) / ideal)


def test_what_a_user_cannot_be_given_is_not_relevant() -> None:
    users, items = np.array([5, 5, 2, 9, 5]), np.array([1, 3, 4, 0, 1])
    gone = {2: [4], 5: [3], 9: []}
    asking, relevant, without = relevant_of(users, items, lambda of: [np.array(gone[u], np.int64) for u in of.tolist()])
    assert asking.tolist() == [5, 9]
    assert [r.tolist() for r in relevant] == [[1], [0]]
    assert [w.tolist() for w in without] == [[3], []]
