"""A learner of all tasks: of each, what a learner of that task alone would be; of the main one, nothing changes."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from learner.config import BalanceSettings, HeadSettings, ModelSettings
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.metrics import auc
from learner.recipe import Recipe, TaskRecipe
from learner.samples.columns import blocks
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from learner.targets import targets_of_task, turned_of_task
from tests.learner import checkpoints
from tests.learner.fast.streams import assert_equal
from tests.learner.tasks.streams import BUY, CLICK, TASKS, WATCH, as_main, make_recipe, make_stream, to_samples

DAY_MS = 86_400_000
DEEP = {"deep": "dcnv2", "dim": 4, "hidden": (8,)}
SMALL = {"experts": 2, "own_experts": 1, "expert_width": 6, "tower": (4,)}


def heads(kind: str, **others: object) -> ModelSettings:
    layers = 2 if kind == "snr" else 1
    return ModelSettings(**{**DEEP, **others, "heads": HeadSettings(kind=kind, layers=layers, **SMALL)})


MODELS = {
    "fast": ModelSettings(),
    "fast + dcnv2": ModelSettings(**DEEP),
    **{f"fast + {kind}": heads(kind) for kind in ("shared_bottom", "mmoe", "snr", "ple")},
    "mmoe alone": heads("mmoe", fast=False),
}
kinds_of_model = pytest.mark.parametrize("model", list(MODELS.values()), ids=list(MODELS))


def learn(learner: Learner, records: Sequence[Sample], size: int = 300) -> Learned:
    return joined([learner.learn(part) for part in blocks(to_samples(records), size)])


def main_only(recipe: Recipe) -> Recipe:
    learner = msgspec.structs.replace(recipe.learner, tasks="main")
    return msgspec.structs.replace(recipe, learner=learner, tasks=())


def without_tasks(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in state.items() if not name.startswith("tasks.")}


@pytest.mark.parametrize("model", [MODELS["fast"], MODELS["fast + dcnv2"]])
@pytest.mark.parametrize("tasks", [TASKS, (TASKS[CLICK],)])
def test_the_main_task_is_bit_for_bit_what_it_is_alone(model: ModelSettings, tasks: tuple[TaskRecipe, ...]) -> None:
    """With one task, with several, and for a learner that knows of none."""
    stream = make_stream(400)
    recipe = make_recipe(model, tasks)
    all_of_them, alone = Learner(recipe), Learner(main_only(recipe))
    got, expected = learn(all_of_them, stream), learn(alone, stream)
    for name in ("predictions_B", "ranks_B", "labels_B", "norms_B2", "unseen_B2", "weights_BK", "sizes_BF"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    (state, meta), (other, other_meta) = all_of_them.state(), alone.state()
    assert_equal(without_tasks(state), other)
    assert meta == other_meta
    assert (len(state) > len(other)) is (len(tasks) > 1)
    assert expected.by_task is None
    assert got.by_task is not None
    np.testing.assert_array_equal(got.by_task.predictions_BT[:, all_of_them.recipe.main], expected.predictions_B)


@pytest.mark.parametrize("task", [BUY, WATCH])
@pytest.mark.parametrize("how", ["undo", "none", "fnw", "fnc"])
def test_each_task_is_learned_as_if_it_were_the_main_one(task: int, how: str) -> None:
    stream = make_stream(500)
    learner = Learner(make_recipe(delayed_feedback=how))
    got = learn(learner, stream)
    other = tuple(msgspec.structs.replace(t, is_main=n == task) for n, t in enumerate(TASKS))
    alone = Learner(main_only(make_recipe(tasks=other, delayed_feedback=how)))
    expected = learn(alone, as_main(stream, task))
    assert got.by_task is not None
    np.testing.assert_array_equal(got.by_task.predictions_BT[:, task], expected.predictions_B)
    np.testing.assert_array_equal(got.by_task.ranks_BT[:, task], expected.ranks_B)
    np.testing.assert_array_equal(got.by_task.turned_BT[:, task], expected.corrections_B)
    known_B = got.by_task.known_BT[:, task]
    np.testing.assert_array_equal(got.by_task.labels_BT[known_B, task], expected.labels_B[known_B])
    part = learner.others.parts[learner.others.numbers.index(task)]
    assert alone.fast is not None
    assert_equal(part.state(), alone.fast.state())


@kinds_of_model
def test_every_task_is_learned(model: ModelSettings) -> None:
    stream = make_stream(1800)
    learner = Learner(make_recipe(model, dense_lr=0.01, embedding_init=0.1))
    by_task = learn(learner, stream).by_task
    assert by_task is not None
    for task in (BUY, CLICK, WATCH):
        if task != CLICK and not model.fast and model.heads.kind == "none":
            continue
        known = by_task.known_BT[:, task] & ~by_task.turned_BT[:, task]
        labels, said = by_task.labels_BT[known, task], by_task.predictions_BT[known, task]
        assert auc(labels[-900:], said[-900:]) > 0.66, TASKS[task].name
        assert np.isfinite(by_task.predictions_BT).all()


@pytest.mark.parametrize("size", [1, 7])
def test_without_a_deep_part_blocks_of_any_size_give_the_same(size: int) -> None:
    stream = make_stream(200)
    whole, cut = (Learner(make_recipe()) for _ in range(2))
    expected, got = learn(whole, stream, len(stream)), learn(cut, stream, size)
    assert expected.by_task is not None
    assert got.by_task is not None
    for name in ("predictions_BT", "ranks_BT", "labels_BT", "known_BT", "turned_BT"):
        np.testing.assert_array_equal(getattr(got.by_task, name), getattr(expected.by_task, name))
    assert_equal(cut.state()[0], whole.state()[0])


def test_a_label_that_is_not_known_yet_teaches_nothing() -> None:
    learner = Learner(make_recipe())
    base = [sample for sample in make_stream(100) if sample.kind <= SampleKind.POSITIVE]
    learn(learner, base)
    assert [part.table.num_rows > 0 for part in learner.others.parts] == [True, False]


def test_both_samples_of_a_turned_label_together_teach_one_positive() -> None:
    """Probabilities stay calibrated, which they do not if the negative stays learned."""
    stream, ratios = make_stream(5000), {}
    for how in ("undo", "none"):
        by_task = learn(Learner(make_recipe(delayed_feedback=how)), stream).by_task
        assert by_task is not None
        samples = to_samples(stream)
        final = {}
        for n in np.flatnonzero(by_task.known_BT[:, BUY]).tolist():
            final[samples.imp_ids[n]] = by_task.labels_BT[n, BUY]
        is_shown = samples.rows_B["kind"] == SampleKind.SHOWN
        said = by_task.predictions_BT[is_shown, BUY][2000:]
        labels = [final[imp_id] for imp_id, shown in zip(samples.imp_ids, is_shown, strict=True) if shown][2000:]
        ratios[how] = said.sum() / sum(labels)
    assert ratios["undo"] == pytest.approx(1.0, abs=0.04)
    assert ratios["none"] < 0.92


def test_which_labels_are_known_and_which_turn_follows_from_delays() -> None:
    stream = make_stream(60)
    samples = to_samples(stream)
    for task in (BUY, WATCH):
        targets = targets_of_task(samples, task, TASKS[task], "undo")
        told = set[str]()
        for n, sample in enumerate(stream):
            known = bool(sample.known & 1 << task)
            assert targets.learn_B[n] == known
            assert targets.turn_B[n] == (2 if known and sample.core.imp_id in told else 0)
            if known:
                assert targets.labels_B[n] == (sample.labels >> task & 1)
                told.add(sample.core.imp_id)
        assert (targets_of_task(samples, task, TASKS[task], "none").turn_B == 0).all()
    at_once = msgspec.structs.replace(TASKS[BUY], told_at_once=True, window_ms=10_000)
    assert turned_of_task(samples, BUY, at_once).sum() == sum(s.kind == 3 and s.task == BUY for s in stream)


METHODS = ("fixed", "fixed", "uncertainty", "pcgrad", "uncertainty", "pcgrad", "fixed")


@pytest.mark.parametrize(("model", "method"), list(zip(MODELS.values(), METHODS, strict=True)), ids=list(MODELS))
def test_a_restored_learner_goes_on_as_if_nothing_had_happened(
    model: ModelSettings, method: str, tmp_path: Path
) -> None:
    stream = make_stream(400)
    recipe = make_recipe(model, embedding_ttl_days=1, balance=BalanceSettings(method))
    learner = Learner(recipe)
    learn(learner, stream[:700])
    learner.evict_stale()
    checkpoints.write(learner, tmp_path)
    expected = learn(learner, stream[700:])
    restored = Learner(recipe)
    learn(restored, stream[100:300])
    checkpoints.restore(restored, tmp_path)
    got = learn(restored, stream[700:])
    assert got.by_task is not None
    assert expected.by_task is not None
    np.testing.assert_array_equal(got.by_task.predictions_BT, expected.by_task.predictions_BT)
    assert_equal(restored.state()[0], learner.state()[0])


def test_a_state_of_other_tasks_is_refused() -> None:
    all_of_them, alone = Learner(make_recipe()), Learner(main_only(make_recipe()))
    two = Learner(make_recipe(tasks=TASKS[:2]))
    with pytest.raises(ValueError, match=r"not learned task 'buy': learner.tasks or \[\[tasks\]\] changed"):
        all_of_them.restore(*alone.state())
    for here in (alone, two):
        with pytest.raises(ValueError, match="more tasks than"):
            here.restore(*all_of_them.state())
    with pytest.raises(ValueError, match="not learned task 'watch'"):
        all_of_them.restore(*two.state())


@kinds_of_model
def test_a_serving_model_predicts_every_task_as_the_learner_would(model: ModelSettings) -> None:
    """After a full snapshot and after deltas."""
    stream = make_stream(500)
    learner = Learner(make_recipe(model, dense_lr=0.01))
    learn(learner, stream[:400])
    take_changed(learner)
    scorer = ServingModel(learner.recipe)
    scorer.load(encode_snapshot(learner, None))
    learn(learner, stream[400:900])
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    samples = to_samples(stream[900:1000])
    # With the norms that the store would give.
    samples.rows_B["user_norm"] = learner.norms_of(samples.user_keys)
    samples.rows_B["item_norm"] = learner.norms_of(samples.item_keys)
    served = scorer.predict(samples)
    samples.rows_B["kind"] = SampleKind.SHOWN
    expected = learner.learn(samples)
    assert served.predictions_BT is not None
    assert served.ranks_BT is not None
    assert expected.by_task is not None
    np.testing.assert_allclose(served.predictions_BT, expected.by_task.predictions_BT, atol=1e-6)
    np.testing.assert_allclose(served.ranks_BT, expected.by_task.ranks_BT, atol=1e-5)
    np.testing.assert_array_equal(served.predictions_B, served.predictions_BT[:, CLICK])
    assert served.predictions_BT.std(0).min() > 0.0


def test_rows_of_every_task_are_evicted_by_event_time() -> None:
    learner = Learner(make_recipe(embedding_ttl_days=2))
    stream = make_stream(100)
    learn(learner, stream)
    before = [part.table.num_rows for part in learner.others.parts]
    assert learner.evict_stale() == 0
    moved = [
        msgspec.structs.replace(s, core=msgspec.structs.replace(s.core, user_id="new", ts=s.core.ts + 4 * DAY_MS))
        for s in stream[:30]
    ]
    learn(learner, moved)
    assert learner.evict_stale() > 0
    assert all(part.table.num_rows < num for part, num in zip(learner.others.parts, before, strict=True))


def test_what_diverges_in_any_task_is_seen() -> None:
    learner = Learner(make_recipe())
    learn(learner, make_stream(100))
    assert learner.is_finite
    learner.others.parts[1].table.values["w"][1:] = np.nan
    learn(learner, make_stream(100))
    assert not learner.is_finite


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing would learn the tasks besides the main one"):
        make_recipe(ModelSettings(fast=False, **DEEP))
    with pytest.raises(ValueError, match=r"balance.weights names \['like'\]; the tasks are \['buy', 'click'"):
        make_recipe(balance=BalanceSettings(weights={"like": 2.0}))
    with pytest.raises(ValueError, match="one of the tasks must be the main one"):
        msgspec.structs.replace(make_recipe(), tasks=())
