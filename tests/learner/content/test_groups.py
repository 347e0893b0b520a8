"""Searching a pool by its groups, beside comparing all of it."""

import numpy as np
import pytest

from learner.content.groups import grouped, most_similar

WIDTH = 32


def vectors(rng: np.random.Generator, num: int, num_kinds: int) -> np.ndarray:
    """Around as many directions, of length 1."""
    kinds = rng.normal(size=(num_kinds, WIDTH))
    found = kinds[rng.integers(num_kinds, size=num)] + 0.3 * rng.normal(size=(num, WIDTH))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("num", [1, 2, 7, 200])
def test_where_all_groups_are_read_nothing_is_missed(num: int) -> None:
    rng = np.random.default_rng(1)
    of_all, asked = vectors(rng, num, 5), vectors(rng, 20, 5)
    groups = grouped(of_all)
    assert sorted(groups.order_M.tolist()) == list(range(num))
    assert groups.bounds_G1[-1] == num
    for query in asked:
        expected, found = most_similar(query, of_all, None, 10), most_similar(query, of_all[groups.order_M], groups, 10)
        assert len(found[0]) == min(num, 10)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
        np.testing.assert_allclose(of_all[found[0]] @ query, found[1], atol=1e-6)
        assert (np.diff(found[1]) <= 0).all()


def test_of_many_a_few_are_read_and_nearly_all_of_the_most_similar_are_found() -> None:
    rng = np.random.default_rng(2)
    of_all, asked = vectors(rng, 20_000, 300), vectors(rng, 100, 300)
    groups = grouped(of_all)
    by_place, shares, likeness = of_all[groups.order_M], [], []
    sizes = np.diff(groups.bounds_G1)
    assert sizes.max() < 20_000 / 20
    for query in asked:
        expected, found = most_similar(query, of_all, None, 20), most_similar(query, by_place, groups, 20)
        shares.append(len(np.intersect1d(expected[0], found[0])) / 20)
        likeness.append(found[1].sum() / expected[1].sum())
    assert np.mean(shares) > 0.8
    assert np.mean(likeness) > 0.95


def test_groups_follow_from_the_vectors_alone() -> None:
    of_all = vectors(np.random.default_rng(3), 3000, 40)
    np.random.seed(5)
    for one, other in zip(grouped(of_all), grouped(of_all.copy()), strict=True):
        np.testing.assert_array_equal(one, other)
