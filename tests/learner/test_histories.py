"""A learner that reads histories: it learns from them, goes on bit for bit, and is served as it predicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from learner.adaf2m2.histories import HistoryPlan
from learner.config import FieldSettings, HistorySettings, LearnerSettings, ModelSettings, SifSettings
from learner.fast.config import FastSettings
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.models.sequences.catalog import READERS
from learner.recipe import Recipe
from learner.samples.asked import asked_rows
from learner.samples.columns import Samples, blocks, concatenate
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import HISTORY_ENTRY, one_behind_the_other
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from learner.tables.table import Group, Table

FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("genre", "item", "categorical"),
)
HISTORIES = (HistorySettings("liked", ("like",), by="genre"), HistorySettings("seen", ("like",), length=8, by="genre"))
DEEP: list[dict[str, Any]] = [{"history": name, "fast": False} for name in READERS if name != "sif"]
DEEP.append({"deep": "sif", "history": "sif", "sif": SifSettings(tokens="items"), "fast": False})
PARTS: list[dict[str, Any]] = [*DEEP, {"deep": "none"}, {"history": "din", "num_masks": 2}]
parts = pytest.mark.parametrize("model", PARTS, ids=str)
NUM_ITEMS, NUM_GENRES = 12, 2


def recipe_of(model: dict[str, Any], **fast: Any) -> Recipe:
    settings = {"deep": "dnn", "dim": 4, "hidden": (16,), "history_items": 5, "history_hidden": (8,)}
    settings |= {"adapter": False, "num_masks": 0, **model}
    return Recipe(
        FIELDS,
        model=ModelSettings(**settings),
        fast=FastSettings(
            **{"factors": 4, "max_rows": 5_000, "max_cross_rows": 10, "history_items": 5, "history_rate": 0.05, **fast}
        ),
        learner=LearnerSettings(micro_batch=16, dense_lr=1e-2, embedding_init=0.5),
        histories=HISTORIES,
    )


def samples_of(recipe: Recipe, count: int, seed: int = 0) -> Samples:
    """Users come once, and like another item of the genre that they have liked: nothing but histories tells which."""
    rng, layout = np.random.default_rng(seed), recipe.layout
    rows_B, entries, texts = asked_rows(layout, count), [], []
    for b in range(count):
        taste, item = int(rng.integers(NUM_GENRES)), int(rng.integers(NUM_ITEMS))
        ts, label = 10**9 + 1000 * b, int(item % NUM_GENRES == taste)
        names = f"u{seed}-{b}", f"i{item}", f"g{item % NUM_GENRES}"
        keys = [value_key(field.name, name) for field, name in zip(FIELDS, names, strict=True)]
        sizes = [int(rng.integers(1, 7)), int(rng.integers(0, 3))]
        for size in sizes:
            liked = np.sort(rng.integers(0, NUM_ITEMS // NUM_GENRES, size)) * NUM_GENRES + taste
            entries += [
                (ts - 10_000 + n, value_key("item_id", f"i{i}"), value_key("genre", f"g{taste}"))
                for n, i in enumerate(liked.tolist())
            ]
        rows_B[b : b + 1]["keys"], rows_B[b : b + 1]["history_sizes"] = keys, sizes
        for name, value in (("ts", ts), ("kind", label), ("label", label), ("imp_key", b + 1)):
            rows_B[name][b] = value
        texts += [f"{b}", *names[:2], None, None]
    rows_B["history_starts"] = one_behind_the_other(rows_B["history_sizes"])
    return Samples(layout, rows_B, np.zeros(0, np.uint64), texts, np.array(entries, HISTORY_ENTRY))


def learn(learner: Learner, samples: Samples, size: int = 64) -> Learned:
    return joined([learner.learn(part) for part in blocks(samples, size)])


@parts
def test_it_learns_what_only_histories_tell(model: dict[str, Any]) -> None:
    recipe = recipe_of(model)
    samples = samples_of(recipe, 2000)
    predictions_B = learn(Learner(recipe), samples).predictions_B[-500:]
    assert np.mean((predictions_B > 0.5) == samples.rows_B["label"][-500:]) > 0.9


@parts
def test_a_restored_learner_goes_on_bit_for_bit(model: dict[str, Any]) -> None:
    recipe = recipe_of(model)
    samples = samples_of(recipe, 500)
    learner, restored = Learner(recipe), Learner(recipe)
    learn(learner, samples.slice(0, 300))
    restored.restore(*learner.state())
    rest = samples.slice(300, 500)
    np.testing.assert_array_equal(learn(restored, rest).predictions_B, learn(learner, rest).predictions_B)


@parts
def test_what_is_served_is_what_the_learner_would_say(model: dict[str, Any]) -> None:
    recipe = recipe_of(model)
    samples = samples_of(recipe, 900)
    learner, scorer = Learner(recipe), ServingModel(recipe)
    learn(learner, samples.slice(0, 400))
    take_changed(learner)
    scorer.load(encode_snapshot(learner, None))
    learn(learner, samples.slice(400, 800))
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    shown = samples.slice(800, 900)
    shown.rows_B["kind"] = SampleKind.SHOWN
    served, said = scorer.predict(shown), learn(learner, shown, 100)
    assert served.predictions_B.std() > 0.01
    np.testing.assert_allclose(served.predictions_B, said.predictions_B, atol=1e-5)


def test_where_blocks_end_decides_nothing_for_the_fast_part() -> None:
    """Nor does it for items that come in a history before, or in the same block as, their first own sample."""
    recipe = recipe_of({"deep": "none"})
    samples = samples_of(recipe, 300)
    whole, cut = Learner(recipe), Learner(recipe)
    expected = learn(whole, samples, 300)
    np.testing.assert_array_equal(learn(cut, samples, 7).predictions_B, expected.predictions_B)
    ones = Learner(recipe)
    np.testing.assert_array_equal(learn(ones, samples, 1).predictions_B, expected.predictions_B)


def test_components_of_histories_have_names_and_gates() -> None:
    recipe = recipe_of({"deep": "none"})
    learner, scorer = Learner(recipe), ServingModel(recipe)
    samples = samples_of(recipe, 300)
    learn(learner, samples)
    scorer.load(encode_snapshot(learner, None))
    told = {part.part: part.component for part in scorer.explain(samples.slice(299, 300))}
    assert {"liked.item", "liked.content", "seen.item", "seen.content"} <= told.keys()
    assert told["liked.item"] != 0


def test_without_a_reader_histories_are_carried_and_left_alone() -> None:
    bare, carried = recipe_of({"history": "none"}, history_items=0), recipe_of({"history": "none"}, history_items=0)
    samples = samples_of(carried, 200)
    without = Samples(bare.layout, samples.rows_B.copy(), samples.keys_M, samples.texts)
    without.rows_B["history_sizes"] = 0
    np.testing.assert_array_equal(
        learn(Learner(bare), without).predictions_B, learn(Learner(carried), samples).predictions_B
    )
    with pytest.raises(ValueError, match=r"model\.history is 'din', and no \[\[histories\]\]"):
        Recipe(FIELDS, model=ModelSettings(deep="dnn", history="din"))


def _plan(histories: Sequence[HistorySettings], most: int, *, by_category: bool) -> HistoryPlan:
    return HistoryPlan(histories, FIELDS, most, by_category=by_category)


@pytest.mark.parametrize("by_category", [False, True])
def test_the_newest_entries_are_picked(by_category: bool) -> None:
    recipe = recipe_of({})
    one = concatenate([samples_of(recipe, 80), samples_of(recipe, 80, seed=1)])
    table = Table([Group("deep", 1)], [1, 1, 1], 1000)
    known = [value_key("item_id", f"i{i}") for i in range(0, NUM_ITEMS, 2)]
    known += [value_key("genre", f"g{g}") for g in range(NUM_GENRES)]
    table.put(np.array(known, np.uint64), np.zeros(len(known)), {})
    got = _plan(HISTORIES, 3, by_category=by_category).rows(one, table)
    for b, sizes in enumerate(one.rows_B["history_sizes"].tolist()):
        wanted = one.rows_B["keys"][b, 2]
        for h, size in enumerate(sizes):
            at = one.rows_B["history_starts"][b, h]
            entries = [e for e in one.entries_H[at : at + size] if not by_category or e["category"] == wanted][::-1][:3]
            for name, rows_L in (("item", got.items_BHL[b, h]), ("category", got.categories_BHL[b, h])):
                rows = table.find(np.array([e[name] for e in entries], np.uint64)).tolist()
                assert rows_L.tolist() == rows + [0] * (3 - len(entries))
            gaps = [float(one.rows_B["ts"][b] - e["ts"]) for e in entries]
            assert got.gaps_BHL[b, h].tolist() == gaps + [0.0] * (3 - len(entries))
    assert (got.items_BHL > 0).any()
    with pytest.raises(ValueError, match=r"searches by category, and histories \['liked'\] have no field in `by`"):
        _plan([HistorySettings("liked", ("like",))], 3, by_category=True)
