"""Models of several tasks on the same samples: labels, what each model learns from, what is kept and reported."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.small_log import RULES, small_log, with_tasks

from learner.learner import Learner
from learner.samples.columns import Samples
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.stream.recorded import Recording, obtain
from simulators.experiments.stream.variant import Variant
from simulators.experiments.tasks.report import TasksReport
from simulators.experiments.tasks.run import TasksExperiment, TasksResult
from simulators.experiments.tasks.truth import TaskTruth
from simulators.experiments.tasks.variants import BALANCES, FAST, HEADS, alone, beside_fast, headed, task_variants
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from state_store.tasks import TaskSettings
from stream.settings import load_settings

TASKS = ("click", "buy", "watch")
UNITS = {"watch": 40.0}


@pytest.fixture(scope="module")
def log() -> Log:
    return small_log(500, seed=3)


@pytest.fixture(scope="module")
def recording(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    settings = with_tasks(load_settings(environment={}, defaults=log.settings))
    watch = TaskSettings("watch", ("watch",), window_ms=120_000, attribution_ms=1_800_000)
    settings = msgspec.structs.replace(settings, tasks=(*settings.tasks[:2], watch))
    return obtain(settings, log, ReplaySettings(), tmp_path_factory.mktemp("recordings"), lambda what: None)


@pytest.fixture(scope="module")
def variants() -> dict[str, Variant]:
    return {variant.name: variant for variant in task_variants(64, TASKS, UNITS)}


@pytest.fixture
def experiment(recording: Recording, variants: dict[str, Variant], tmp_path: Path) -> TasksExperiment:
    tasks = variants[FAST].recipe(recording.settings.recipe, 7).tasks
    truth = TaskTruth(recording, tasks, 20)
    return TasksExperiment(recording, truth, Kept(tmp_path, TasksResult), list(variants.values()))


def test_labels_are_the_logs_and_a_value_counts_above_the_median(experiment: TasksExperiment, log: Log) -> None:
    (rows,) = log.stretches()
    outcomes = experiment.truth.outcomes
    assert len(outcomes.base_N) == len(rows)
    imp_ids = np.concatenate([block.imp_ids for block in experiment.recording.blocks(128)])[outcomes.base_N]
    for k, rule in enumerate(RULES[:2]):
        acted = dict(zip(rows["imp_id"], rows[f"feedback.{k}"], strict=True))
        # Some feedback comes too late to count.
        assert np.mean(outcomes.labels_NK[:, k] == [acted[imp_id] for imp_id in imp_ids]) > 0.97, rule
    watched = rows["value.2"].fill_null(0.0).to_numpy() * rows["feedback.2"].to_numpy()
    values = dict(zip(rows["imp_id"], watched, strict=True))
    expected = np.array([values[imp_id] for imp_id in imp_ids]) > np.median(watched[watched > 0])
    assert np.mean(outcomes.labels_NK[:, 2] == expected) > 0.95


def test_there_is_a_model_of_each_task_and_of_each_kind_of_heads(variants: dict[str, Variant]) -> None:
    wanted = {FAST, *map(alone, TASKS), *map(beside_fast, HEADS)}
    assert set(variants) == wanted | {headed(kind, method) for kind in HEADS for method in BALANCES}
    assert set(HEADS) == {"shared_bottom", "mmoe", "snr", "ple"}
    assert set(BALANCES) == {"fixed", "uncertainty", "pcgrad"}


def test_a_model_of_one_task_learns_nothing_from_the_labels_of_others(
    recording: Recording, variants: dict[str, Variant]
) -> None:
    buy, others = 1, np.uint8(0b101)

    def said(name: str, flipped: np.uint8) -> np.ndarray:
        learner = Learner(variants[name].recipe(recording.settings.recipe, 7))
        parts = []
        for samples in recording.blocks(128):
            rows = samples.rows_B.copy()
            rows["labels"] ^= flipped & rows["known"]
            by_task = learner.learn(Samples(samples.layout, rows, samples.keys_M, samples.texts)).by_task
            assert by_task is not None
            parts.append(by_task.predictions_BT[:, buy])
        return np.concatenate(parts)

    np.testing.assert_array_equal(said(alone("buy"), np.uint8(0)), said(alone("buy"), others))
    shared = headed("shared_bottom", "fixed")
    assert np.abs(said(shared, np.uint8(0)) - said(shared, others)).max() > 1e-3


def test_what_is_kept_is_not_learned_again_and_is_reported(
    experiment: TasksExperiment, variants: dict[str, Variant]
) -> None:
    chosen = [variants[name] for name in (FAST, alone("click"), alone("buy"), headed("ple", "pcgrad"))]
    first = list(experiment.run(chosen, [7], lambda more: None))
    assert [result.variant for result in first] == [variant.name for variant in chosen]
    assert list(experiment.run(chosen, [7], lambda more: None)) == []
    report = TasksReport(experiment, [7, 8])
    text, figures = report.text("coldstream experiment"), report.figures()
    assert f"| {headed('ple', 'pcgrad')} | 1 |" in text
    assert set(figures[alone("buy")]) == {"buy"}
    together = figures[headed("ple", "pcgrad")]
    assert set(together) == set(TASKS)
    assert together["watch"]["difference"] is None, "there is no model of it alone to compare with"
    value, low, high = together["buy"]["difference"]
    aucs = {result.variant: result.auc for result in first}
    assert value == pytest.approx(aucs[headed("ple", "pcgrad")][1] - aucs[alone("buy")][1])
    assert low <= value <= high
    with pytest.raises(KeptError, match="other samples or settings"):
        experiment.find(next(iter(task_variants(64, TASKS, {"watch": 1.0}))), 7)
