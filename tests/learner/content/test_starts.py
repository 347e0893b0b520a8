"""New items and new users in a learner and in a scorer."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from learner.content.config import ContentStartSettings
from learner.fast.config import CrossSettings, FastSettings
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.recipe import Recipe, TaskRecipe
from learner.samples.former import Sample
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from tests.learner import checkpoints
from tests.learner.fast.records import FIELDS, changed, make_records, to_samples
from tests.learner.fast.streams import assert_equal

STARTS: dict[str, Any] = {
    "category": "genres",
    "neighbours": 3,
    "evidence": 0.5,
    "every": 50,
    "buckets": 64,
    "width": 8,
    "batch": 8,
    "steps": 1,
}


def make_recipe(
    method: str = "learned", *, users: str = "none", min_count: int = 1, all_tasks: bool = False, **starts: Any
) -> Recipe:
    fields = tuple(
        msgspec.structs.replace(field, min_count=min_count if field.name == "item_id" else 1) for field in FIELDS
    )
    recipe = Recipe(
        fields,
        fast=FastSettings(max_rows=5_000, max_cross_rows=20_000, counted_ids=100),
        crosses=(CrossSettings(("user_id", "genres")),),
        content_start=msgspec.convert({"method": method, **STARTS, **starts}, ContentStartSettings),
        user_start=msgspec.convert({**STARTS, "method": users, "category": "age", **starts}, ContentStartSettings),
    )
    if not all_tasks:
        return recipe
    tasks = (TaskRecipe("like", (0,), is_main=True), TaskRecipe("other", (0,)))
    return msgspec.structs.replace(recipe, tasks=tasks, learner=msgspec.structs.replace(recipe.learner, tasks="all"))


def stream(count: int, seed: int = 0) -> list[Sample]:
    """Every third impression is shown before; item n comes from sample 20 n on, user n from sample 15 n on."""
    records = []
    for n, record in enumerate(make_records(count, seed)):
        item = int(record.core.item_id[1:]) % (1 + n // 20)
        user = int(record.core.user_id[1:]) % (1 + n // 15)
        ids = {"user_id": f"u{user}", "item_id": f"i{item}"}
        features = [str(user % 5), [f"g{item % 7}", "g"], float(item)]
        of = changed(record, **ids, features=features, labels=record.label, known=3)
        records += [changed(of, kind=SampleKind.SHOWN), of] if n % 3 == 0 else [of]
    return records


def learn(learner: Learner, records: Sequence[Sample], cuts: Sequence[int] = ()) -> Learned:
    bounds = [0, *cuts, len(records)]
    return joined([learner.learn(to_samples(records[a:b], learner.fields)) for a, b in pairwise(bounds)])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "nearest", "min_count": 3, "users": "nearest"},
        {"all_tasks": True, "users": "learned"},
        {"method": "none", "users": "category"},
        {"method": "nearest", "users": "learned", "exact_items": 5},
    ],
)
@pytest.mark.parametrize("size", [1, 7, 130])
def test_however_a_stream_is_cut_everything_is_equal_bit_for_bit(size: int, changes: dict[str, Any]) -> None:
    records = stream(500)
    whole, cut = (Learner(make_recipe(**changes)) for _ in range(2))
    said = learn(whole, records), learn(cut, records, range(size, len(records), size))
    for name in ("predictions_B", "ranks_B", "content_made_B"):
        np.testing.assert_array_equal(getattr(said[0], name), getattr(said[1], name))
    assert_equal(whole.state()[0], cut.state()[0])
    assert whole.fast is not None
    assert whole.fast.starts
    assert all(starts.has_pool for starts in whole.fast.starts)


def test_a_learner_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    records = stream(500)
    whole, first, second = (Learner(make_recipe(users="learned")) for _ in range(3))
    expected = learn(whole, records)
    # Between two looks, and with items that are known since the last one.
    learn(first, records[:390])
    checkpoints.write(first, tmp_path)
    checkpoints.restore(second, tmp_path)
    said = learn(second, records[390:])
    np.testing.assert_array_equal(said.predictions_B, expected.predictions_B[390:])
    assert_equal(second.state()[0], whole.state()[0])
    with pytest.raises(ValueError, match=r"\[content_start\], or its file of words, have changed"):
        checkpoints.restore(Learner(make_recipe("nearest", buckets=32)), tmp_path)
    checkpoints.write(Learner(make_recipe("none")), tmp_path)
    with pytest.raises(ValueError, match=r"\[content_start\], or its file of words, have changed"):
        checkpoints.restore(Learner(make_recipe()), tmp_path)
    with pytest.raises(ValueError, match=r"saved model's users .* \[user_start\], or its file of words, have changed"):
        checkpoints.restore(Learner(make_recipe("none", users="nearest")), tmp_path)


def test_a_checkpoint_has_the_content_of_new_items_alone() -> None:
    learner, name = Learner(make_recipe("nearest")), "fast.starts.known.content.keys"
    records = stream(500)
    old, new = (
        {value_key("item_id", record.core.item_id) for record in some if record.kind != SampleKind.SHOWN}
        for some in (records[:400], records[400:])
    )
    learn(learner, records[:400])
    assert set(learner.take_changes(whole=True)[0][name].tolist()) == old
    learn(learner, records[400:])
    assert set(learner.take_changes()[0][name].tolist()) == new - old


def test_a_new_item_starts_with_what_it_is_made_of_and_with_no_evidence() -> None:
    learner = Learner(make_recipe("nearest", weight_share=1.0, factor_share=1.0))
    learn(learner, stream(500))
    fast = learner.fast
    assert fast is not None
    pool = fast.starts[0].pool.look
    new = changed(stream(1)[1], item_id="new", features=["1", ["g3", "g"], 3.0])
    shown = changed(new, kind=SampleKind.SHOWN)
    before, said = learn(learner, [shown]), learn(learner, [shown, new])
    # Shown, and just before it is learned, it is predicted alike.
    assert before.predictions_B[0] == said.predictions_B[0] == said.predictions_B[1]
    assert said.content_made_B is not None
    assert said.content_made_B.tolist() == [True, True]
    again = learn(learner, [shown])
    assert again.content_made_B is not None
    assert again.content_made_B.tolist() == [False]
    assert again.predictions_B[0] != before.predictions_B[0]
    # What has the very same content is the most similar one, wherever it is in the pool.
    twin = Learner(make_recipe("nearest", neighbours=1, weight_share=1.0, factor_share=1.0))
    learn(twin, stream(500))
    assert twin.fast is not None
    learn(twin, [changed(new, features=["1", ["g3", "g"], 3.0])])
    row = twin.table.find(np.array([value_key("item_id", "new")], np.uint64))[0]
    at = pool.keys_M.tolist().index(value_key("item_id", "i3"))
    start_D, other_D = pool.values_MX[at, 1:], pool.values_MX[at - 1, 1:]
    learned_D = twin.table.values["v"][row]
    assert np.abs(learned_D - start_D).max() < 0.5 * np.abs(learned_D - other_D).max()
    assert 0 < twin.table.values["G"][row, 0] < 1


def test_a_new_user_starts_with_what_those_alike_have_learned_and_with_no_evidence() -> None:
    learner = Learner(make_recipe("none", users="category", weight_share=1.0, factor_share=0.5))
    plain = Learner(make_recipe("none"))
    for one in (learner, plain):
        learn(one, stream(500))
    assert learner.fast is not None
    look = learner.fast.starts[0].pool.look
    alike_M = np.isin(look.keys_M, [value_key("user_id", f"u{n}") for n in range(3, 30, 5)])
    assert 1 < alike_M.sum() < len(alike_M)
    new = changed(stream(1)[1], user_id="new", features=["3", ["g3", "g"], 3.0])
    shown = changed(new, kind=SampleKind.SHOWN)
    before, without = learn(learner, [shown]), learn(plain, [shown])
    assert before.predictions_B[0] != without.predictions_B[0]
    said = learn(learner, [shown, new])
    # Shown, and just before it is learned, it is predicted alike.
    assert before.predictions_B[0] == said.predictions_B[0] == said.predictions_B[1]
    assert said.content_made_B is None
    learn(plain, [new])
    key = np.array([value_key("user_id", "new")], np.uint64)
    (row,), (plain_row,) = learner.table.find(key), plain.table.find(key)
    # One sample moves both by about the same, one from there, the other from 0.
    apart_D = learner.table.values["v"][row] - plain.table.values["v"][plain_row]
    mean_X = look.means_GX[look.categories_G.tolist().index(value_key("age", "3"))]
    assert np.abs(apart_D - 0.5 * mean_X[1:]).max() < 0.2 * np.abs(0.5 * mean_X[1:]).max()
    assert learner.table.values["w"][row, 0] - plain.table.values["w"][plain_row, 0] == pytest.approx(
        mean_X[0], rel=0.2
    )
    assert 0 < learner.table.values["G"][row, 0] < 1


@pytest.mark.parametrize("min_count", [1, 4])
def test_a_scorer_serves_an_item_that_it_knows_by_its_content_alone(min_count: int) -> None:
    """After a full snapshot and after deltas it says what the learner would."""
    learner = Learner(make_recipe(min_count=min_count, users="nearest"))
    records = stream(700)
    learn(learner, records[:300])
    take_changed(learner)
    scorer = ServingModel(learner.recipe)
    scorer.load(encode_snapshot(learner, None))
    for begin in range(300, 700, 100):
        learn(learner, records[begin : begin + 100])
        scorer.load(encode_snapshot(learner, take_changed(learner)))
        fresh = ServingModel(learner.recipe)
        fresh.load(encode_snapshot(learner, None))
        probe = [changed(records[begin], kind=SampleKind.SHOWN, item_id=name) for name in ("i1", "new", "i39")]
        asked = to_samples(probe, learner.fields)
        expected = learner.learn(asked).predictions_B
        np.testing.assert_array_equal(scorer.predict(asked).predictions_B, expected)
        np.testing.assert_array_equal(fresh.predict(asked).predictions_B, expected)
        names, similarities = scorer.stands_for(asked.slice(1, 2)) or ([], [])
        assert len(names) == 3
        assert all(name.startswith("i") for name in names)
        assert similarities == sorted(similarities, reverse=True)
        assert scorer.stands_for(asked.slice(0, 1)) is None
        cold = to_samples([changed(probe[0], user_id="new")], learner.fields)
        np.testing.assert_array_equal(scorer.predict(cold).predictions_B, learner.learn(cold).predictions_B)
        users, _ = scorer.stands_for(cold, "user") or ([], [])
        assert users
        assert all(name.startswith("u") for name in users)
        assert (scorer.stands_for(asked, "user"), scorer.stands_for(cold)) == (None, None)


def test_a_scorer_goes_back_to_weights_from_before_items_started_by_their_content() -> None:
    before, after = Learner(make_recipe("none")), Learner(make_recipe("nearest"))
    for learner in (before, after):
        learn(learner, stream(400))
    scorer, plain = ServingModel(after.recipe), ServingModel(before.recipe)
    asked = to_samples([changed(stream(1)[0], kind=SampleKind.SHOWN, item_id="new")], after.fields)
    for published in (before, after, before):
        scorer.load(encode_snapshot(published, None), alone=True)
        plain.load(encode_snapshot(published, None), alone=True)
        says = scorer.predict(asked).predictions_B, plain.predict(asked).predictions_B
        assert (says[0] == says[1]) == (scorer.stands_for(asked) is None)
    assert scorer.stands_for(asked) is None


def test_items_that_were_evicted_are_not_taken_from() -> None:
    recipe = make_recipe("nearest")
    learner = Learner(
        msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, embedding_ttl_days=1))
    )
    records = stream(600)
    learn(learner, records[:400])
    take_changed(learner)
    scorer = ServingModel(learner.recipe)
    scorer.load(encode_snapshot(learner, None))
    later = [changed(record, ts=record.core.ts + 3 * 86_400_000) for record in records[400:]]
    kept = [record for record in later if int(record.core.item_id[1:]) % 2]
    learn(learner, kept[:20])
    while learner.evict_stale():
        pass
    learn(learner, kept[20:])
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    asked = to_samples([changed(kept[0], kind=SampleKind.SHOWN, item_id="new")], learner.fields)
    names, _ = scorer.stands_for(asked) or ([], [])
    assert names
    assert all(int(name[1:]) % 2 for name in names)
    np.testing.assert_array_equal(scorer.predict(asked).predictions_B, learner.learn(asked).predictions_B)
