"""What new items are given, beside a plain transcription."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings, Kind, check_fields
from learner.content.known import Known
from learner.content.map import ContentMap, info_nce
from learner.content.pool import Pool, Weights, compared, idf_of, look_of, no_pool
from learner.content.vectors import hashed
from learner.content.words import NO_WORDS
from learner.tables.table import Group, Table

BUCKETS = 16
NUM_ITEMS, NUM_VALUES = 40, 4


class Items(NamedTuple):
    content_MH: np.ndarray
    values_MX: np.ndarray
    evidence_M: np.ndarray

    def pool(self, settings: ContentStartSettings) -> Pool:
        """Of items 1, 2, ..., in turn of categories 100, 101 and 102."""
        keys_M = np.arange(1, NUM_ITEMS + 1, dtype=np.uint64)
        pairs_P2 = np.array([[100 + m % 3, m] for m in range(NUM_ITEMS)], np.uint64)
        idf_H = idf_of(NUM_ITEMS, np.count_nonzero(self.content_MH, axis=0))
        weights = Weights(idf_H, np.zeros((BUCKETS, 0), np.float32))
        look = look_of(keys_M, self.values_MX, self.evidence_M, pairs_P2, weights)
        return Pool(settings, look, compared(self.content_MH, look))


def make_items(rng: np.random.Generator) -> Items:
    content_MH = (rng.random((NUM_ITEMS, BUCKETS)) < 0.2).astype(np.float32)
    content_MH[:, 0] = 1
    values_MX = rng.normal(size=(NUM_ITEMS, NUM_VALUES)).astype(np.float32)
    return Items(content_MH, values_MX, rng.random(NUM_ITEMS).astype(np.float32))


def make_settings(method: str, **others: Any) -> ContentStartSettings:
    values = {"method": method, "buckets": BUCKETS, "neighbours": 5, "weight_share": 1.0, "factor_share": 1.0}
    return msgspec.convert({**values, **others}, ContentStartSettings)


def test_an_item_is_given_the_mean_of_those_most_like_it_by_tf_idf() -> None:
    rng = np.random.default_rng(1)
    items = make_items(rng)
    pool = items.pool(make_settings("nearest", weight_share=0.5, factor_share=2.0))
    mine_H = np.zeros(BUCKETS, np.float32)
    mine_H[[0, 3, 5, 7]] = 1, 2, 1, -1
    in_how_many_H = [sum(content_H[h] != 0 for content_H in items.content_MH) for h in range(BUCKETS)]
    idf_H = np.array([np.log((1 + NUM_ITEMS) / (1 + n)) for n in in_how_many_H])

    def cosine(theirs_H: np.ndarray) -> float:
        a, b = mine_H * idf_H, theirs_H * idf_H
        return float(a @ b / np.sqrt(max((a @ a) * (b @ b), 1e-30)))

    cosines = [cosine(content_H) for content_H in items.content_MH]
    best = sorted(range(NUM_ITEMS), key=lambda m: -cosines[m])[:5]
    mean_X = sum(cosines[m] * items.values_MX[m] for m in best) / sum(cosines[m] for m in best)
    made = pool.make(mine_H, np.zeros(0, np.uint64))
    assert made is not None
    np.testing.assert_allclose(made.similarity_K, [cosines[m] for m in best], rtol=1e-5)
    shown_X = np.average(items.values_MX, axis=0, weights=items.evidence_M)
    expected_X = [0.5 * mean_X[0], *(shown_X + 2 * (mean_X - shown_X))[1:]]
    np.testing.assert_allclose(made.values_X, expected_X, rtol=1e-4, atol=1e-6)
    assert made.nearest_K.tolist() == best


@pytest.mark.parametrize(
    ("method", "content", "categories", "expected"),
    [
        ("nearest", False, (100, 102), "categories"),
        ("category", True, (100, 102), "categories"),
        ("category", True, (999,), "all"),
        ("nearest", False, (), "all"),
        ("mean", True, (100,), "all"),
        ("zero", True, (100,), "nothing"),
    ],
)
def test_what_cannot_be_had_is_made_of_something_simpler(
    method: str, content: bool, categories: tuple[int, ...], expected: str
) -> None:
    items = make_items(np.random.default_rng(2))
    mine_H = items.content_MH[0] if content else np.zeros(BUCKETS, np.float32)
    made = items.pool(make_settings(method)).make(mine_H, np.array(categories, np.uint64))

    def mean_of(chosen_M: np.ndarray) -> np.ndarray:
        return np.average(items.values_MX[chosen_M], axis=0, weights=items.evidence_M[chosen_M])

    of_category = [mean_of(np.arange(NUM_ITEMS) % 3 == c - 100) for c in categories if c < 103]
    by_name = {"all": mean_of(np.ones(NUM_ITEMS, np.bool_)), "nothing": np.zeros(NUM_VALUES)}
    if of_category:
        by_name["categories"] = np.mean(of_category, axis=0)
    assert made is not None
    np.testing.assert_allclose(made.values_X, by_name[expected], rtol=1e-5, atol=1e-7)
    assert len(made.nearest_K) == 0


def test_a_large_pool_is_searched_by_an_extra_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [FieldSettings("item_id", "item", "id"), FieldSettings("title", "item", "multi")]
    large = make_settings("nearest", max_items=200_000)
    check_fields(large, fields, "item")
    monkeypatch.setattr("learner.content.config.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"max_items 200000, above exact_items 100000, .*coldstream\[search\]"):
        check_fields(large, fields, "item")
    for smaller in (make_settings("nearest"), make_settings("category", max_items=200_000)):
        check_fields(smaller, fields, "item")


def test_nobody_is_taken_from_before_the_first_look() -> None:
    nothing = np.zeros(0, np.uint64)
    assert no_pool(make_settings("nearest"), 4).make(np.ones(BUCKETS, np.float32), nothing) is None
    zero = no_pool(make_settings("zero"), 4).make(np.ones(BUCKETS, np.float32), nothing)
    assert zero is not None
    assert not zero.values_X.any()


def test_the_map_descends_as_autograd_has_it() -> None:
    rng = np.random.default_rng(3)
    first, second = (rng.normal(size=(6, 5)) for _ in range(2))
    loss, *slopes = info_nce(first, second, 0.3)
    a, b = (torch.tensor(each, requires_grad=True) for each in (first, second))
    logits = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T / 0.3
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(6))
    expected.backward()
    assert loss == pytest.approx(expected.item())
    for ours, theirs in zip(slopes, (a.grad, b.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_the_map_brings_together_what_behaves_alike_though_its_content_says_more_of_other_things() -> None:
    """Bucket 0 or 1 says how an item behaves, and each item has three others at random."""
    rng = np.random.default_rng(4)
    behaves_M = np.arange(300) % 2
    content_MH = np.zeros((300, BUCKETS), np.float32)
    content_MH[np.arange(300), behaves_M] = 0.3
    for m in range(300):
        content_MH[m, 2 + rng.choice(BUCKETS - 2, 3, replace=False)] = 1
    vectors_MD = (np.where(behaves_M, 1, -1)[:, None] + 0.3 * rng.normal(size=(300, 3))).astype(np.float32)
    settings = make_settings("learned", width=8, batch=64, steps=100, dropout=0.2, lr=0.01)
    learned = ContentMap(settings, BUCKETS, 5)

    def share_alike() -> float:
        z_ME = content_MH @ learned.weights_HE
        z_ME /= np.linalg.norm(z_ME, axis=1, keepdims=True)
        cosines_MM = z_ME @ z_ME.T - 2 * np.eye(300)
        nearest_MK = np.argsort(-cosines_MM, axis=1)[:, :10]
        return float((behaves_M[nearest_MK] == behaves_M[:, None]).mean())

    before = share_alike()
    learned.learn(content_MH, vectors_MD)
    assert before < 0.75
    assert share_alike() > before + 0.15


def test_content_is_the_declared_fields_each_of_length_one() -> None:
    """Two samples: of fields 0 (no content), 1 and 2; the second lacks field 2."""
    offsets, keys = np.array([0, 4, 6]), np.array([1, 50, 60, 70, 1, 50], np.uint64)
    fields, weights = np.array([0, 1, 2, 2, 0, 1], np.uint8), np.array([1, 1, 0.5, 0.5, 1, 1], np.float32)
    values = offsets, keys, fields, weights, np.array([0, 1]), np.array([0, 1, 1], np.uint8), 1 << 14
    content_2H, print_2 = hashed(*values, NO_WORDS.keys_N, NO_WORDS.vectors_NW)
    of_field_2 = content_2H[0] - content_2H[1]
    assert np.abs(content_2H[1]).sum() == 1
    np.testing.assert_allclose(np.sort(np.abs(of_field_2))[-3:], [0, 0.5**0.5, 0.5**0.5], rtol=1e-6)
    assert print_2[0] != print_2[1]


def test_known_items_go_with_their_rows_and_are_few_enough() -> None:
    table = Table([Group("w", 1)], [1], 10)
    keys = np.arange(1, 6, dtype=np.uint64)
    table.rows(keys, np.zeros(5, np.uint8), np.arange(5), learning=True)
    settings = make_settings("nearest", max_items=4)
    known, other = Known(settings), Known(settings)

    def add(*keys: int) -> None:
        content_NH = np.tile(np.array(keys, np.float32)[:, None], BUCKETS)
        categories = [np.array([key % 2, 7, 7], np.uint64) for key in keys]
        known.add(np.array(keys, np.uint64), [f"i{key}" for key in keys], content_NH, categories)

    add(1, 2)
    known.table.values["content"][1] = 9
    # Item 1 keeps what it had, and item 5 does not get in.
    add(1, 3, 4, 5)
    assert known.keys.tolist() == [1, 2, 3, 4]
    assert known.content_of(known.keys)[:, 0].tolist() == [9, 2, 3, 4]
    table.drop(np.array([2], np.uint64))
    known.forget_gone(table)
    assert known.table.take_evicted().tolist() == [2]
    add(5, 6)
    other.restore(known.state(Table.state))
    for one in (known, other):
        assert one.names_of(one.keys) == ["i1", "i5", "i3", "i4"]
    assert (other.pairs == known.pairs).all()
    assert sorted(known.pairs.tolist()) == [[0, 4], [1, 1], [1, 3], [1, 5], [7, 1], [7, 3], [7, 4], [7, 5]]
    assert known.num_by_bucket().tolist() == [4] * BUCKETS


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("item", {"method": "nearest"}, r"content_start\.method .* no field of group item says what an item is"),
        ("item", {"method": "zero", "category": "genre"}, r"content_start\.category 'genre' is none of .* fields \[\]"),
        ("user", {"method": "learned"}, r"user_start\.method .* no field of group user or context .* what a user is"),
        ("user", {"method": "zero", "category": "age"}, r"user_start\.category 'age' is none of the users' .*\[\]"),
    ],
)
def test_starts_that_cannot_be_made_of_the_declared_fields_are_refused(
    kind: Kind, settings: dict[str, Any], message: str
) -> None:
    fields = [FieldSettings("user_id", "user", "id"), FieldSettings("item_id", "item", "id")]
    with pytest.raises(ValueError, match=message):
        check_fields(ContentStartSettings(**settings), fields, kind)
    with pytest.raises(ValueError, match="power of two, got 100"):
        ContentStartSettings(buckets=100)
