"""A log as a stream: recordings, figures, variants and rivals on the same samples, what is kept, what is compared."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.logs import synthetic_log
from support.small_log import RULES, small_log, with_tasks

from learner import metrics
from learner.learner import Learner
from learner.parts import weight_names
from learner.samples.columns import concatenate
from learner.samples.kind import SampleKind
from simulators.commands.one_pass.stream import of_task
from simulators.commands.options import UsageError
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.reporting.learned_weights import mean_weights
from simulators.experiments.stream.cohorts import ALL, BOUNDS
from simulators.experiments.stream.figures import Said, Truth
from simulators.experiments.stream.judge import FIGURES, Judge
from simulators.experiments.stream.recorded import Recording, RecordingError, columns_of, obtain
from simulators.experiments.stream.rivals import ITEM_MEAN, RIVER
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variant import Variant
from simulators.experiments.stream.variants import ADAPTER, NO_GATE, WHOLE, Contrast, variants
from simulators.experiments.stream.weights import mean_by
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from stream.predictions.columns import item_mean_baseline
from stream.settings import Settings, load_settings

HOW = ReplaySettings()
ROWS = 1200
REPLICATES = 20


@pytest.fixture(scope="module")
def log() -> Log:
    return synthetic_log(ROWS, seed=1)


@pytest.fixture(scope="module")
def settings(log: Log) -> Settings:
    return load_settings(environment={}, defaults=log.settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def recording(log: Log, settings: Settings, folder: Path) -> Recording:
    return obtain(settings, log, HOW, folder, lambda what: None)


@pytest.fixture(scope="module")
def truth(recording: Recording) -> Truth:
    return Truth(columns_of(recording), REPLICATES)


@pytest.fixture
def experiment(recording: Recording, truth: Truth, tmp_path: Path) -> StreamExperiment:
    return StreamExperiment(recording, truth, Kept(tmp_path, StreamResult))


def _chosen(*names: str, micro_batch: int = 64) -> list[Variant]:
    return [variant for variant in variants(micro_batch) if variant.name in names]


def test_a_recording_has_every_impression_and_is_made_once(
    log: Log, settings: Settings, folder: Path, recording: Recording, truth: Truth
) -> None:
    assert len(truth) == ROWS
    assert sum(len(block) for block in recording.blocks(100)) == recording.header.num_samples
    whole = concatenate(list(recording.blocks(1 << 20)))
    assert concatenate(list(recording.blocks(37))).encode() == whole.encode()
    told: list[str] = []
    obtain(settings, log, HOW, folder, told.append)
    assert told == []
    with pytest.raises(RecordingError, match="another folder"):
        recording.check(log, ReplaySettings(seed=8))


def test_labels_are_those_of_the_chosen_task(tmp_path: Path) -> None:
    log = small_log(300)
    own = with_tasks(load_settings(environment={}, defaults=log.settings))
    log.settings = {**log.settings, "tasks": msgspec.to_builtins(own.tasks), "actions": {"names": own.actions.names}}
    (rows,) = log.stretches()
    acted = {rule.action: dict(zip(rows["imp_id"], rows[f"feedback.{k}"], strict=True)) for k, rule in enumerate(RULES)}
    positive = {"": ["click"], "buy": ["buy"], "watch": ["watch", "buy"]}
    for task, actions in positive.items():
        recording = obtain(of_task(own, task), log, HOW, tmp_path, lambda what: None)
        assert recording.header.task == task
        truth = Truth(columns_of(recording), 2)
        base = [
            imp_id
            for block in recording.blocks(100)
            for imp_id, kind in zip(block.imp_ids, block.rows_B["kind"], strict=True)
            if kind <= SampleKind.POSITIVE
        ]
        assert sorted(base) == sorted(rows["imp_id"])
        expected = [any(acted[action][imp_id] for action in actions) for imp_id in base]
        # Some feedback comes too late to count.
        assert np.mean(truth.labels_N == expected) > 0.97, task
    with pytest.raises(RecordingError, match="task"):
        Recording(next(tmp_path.glob("*buy*.samples")), own).check(log, HOW)
    with pytest.raises(UsageError, match="--task sell: the log has click, buy, watch"):
        of_task(own, "sell")
    assert of_task(own, "click") == own


def test_figures_are_those_of_the_metrics_and_replicates_those_of_repeated_users(truth: Truth) -> None:
    rng = np.random.default_rng(0)
    p_N = np.round(rng.random(len(truth)), 2).astype(np.float32)
    chosen_N = truth.user_counts_N < 10
    auc_R, uauc_R, loss_R = (of(p_N, chosen_N) for of in (truth.auc, truth.user_auc, truth.log_loss))
    assert auc_R.shape == (1 + REPLICATES,)
    for r in (0, 1, REPLICATES):
        # Who is drawn twice is there twice, as two users.
        times_N = truth._counts_UR[truth.users_N, r].astype(int) * chosen_N
        again = np.repeat(np.arange(len(truth)), times_N)
        copy = np.concatenate([np.arange(n) for n in times_N])
        labels, scores = truth.labels_N[again], p_N[again]
        users = truth.users_N[again] + len(truth) * copy
        assert auc_R[r] == pytest.approx(metrics.auc(labels, scores), abs=1e-9)
        assert uauc_R[r] == pytest.approx(metrics.uauc(labels, scores, users), abs=1e-9)
        assert loss_R[r] == pytest.approx(metrics.log_loss(labels, scores), abs=1e-6)


def test_what_was_served_is_what_was_said_when_the_impression_passed(recording: Recording, truth: Truth) -> None:
    columns = columns_of(recording)
    numbers_T = np.arange(len(columns.kinds_T), dtype=np.float32)
    scores = truth.scores(Said(numbers_T, -numbers_T))
    assert np.array_equal(scores.ranks_N, -scores.predictions_N)
    for n in range(0, len(truth), 50):
        at, served = int(scores.predictions_N[n]), int(scores.served_N[n])
        assert columns.impressions_T[at] == columns.impressions_T[served]
        assert columns.kinds_T[served] == SampleKind.SHOWN
        assert columns.kinds_T[at] <= SampleKind.POSITIVE
        assert served < at


def test_variants_and_rivals_learn_the_same_samples_and_are_not_done_again(experiment: StreamExperiment) -> None:
    chosen = _chosen(WHOLE, ADAPTER)
    told: list[str] = []
    done = list(experiment.run(chosen, [1, 2], lambda what, num_more: told.append(what)))
    assert [(result.variant, result.seed) for result in done] == [(v.name, s) for v in chosen for s in (1, 2)]
    rivals = list(experiment.run_rivals([ITEM_MEAN, RIVER], lambda what, num_more: told.append(what)))
    assert [result.variant for result in rivals] == [ITEM_MEAN, RIVER]  # type: ignore[union-attr]
    recording, truth = experiment.recording, experiment.truth
    learner = Learner(chosen[1].recipe(recording.settings.recipe, 2))
    blocks = [learner.learn(block) for block in recording.blocks(1024)]
    said = Said(*(np.concatenate([getattr(of, name) for of in blocks]) for name in ("predictions_B", "ranks_B")))
    expected, kept = truth.scores(said), experiment.scores(done[3])
    for name in kept.__struct_fields__:
        assert np.array_equal(getattr(kept, name), getattr(expected, name), equal_nan=True)
    assert done[3].auc == pytest.approx(metrics.auc(truth.labels_N, expected.predictions_N), abs=1e-9)
    rows = [samples.rows_B for samples in recording.blocks(1024)]
    counts = np.concatenate([each["item_counts"][each["kind"] <= SampleKind.POSITIVE] for each in rows])
    means = experiment.scores(rivals[0]).predictions_N  # type: ignore[arg-type]
    assert np.allclose(means, item_mean_baseline(counts))
    told.clear()
    assert list(experiment.run(chosen, [1, 2], lambda what, num_more: told.append(what))) == []
    assert list(experiment.run_rivals([ITEM_MEAN, RIVER], lambda what, num_more: told.append(what))) == []
    assert told == []
    with pytest.raises(KeptError, match="other samples or settings"):
        list(experiment.run(_chosen(ADAPTER, micro_batch=32), [1], lambda what, num_more: None))


def test_differences_are_of_the_same_draws_and_seeds(experiment: StreamExperiment) -> None:
    results = list(experiment.run(_chosen(WHOLE, NO_GATE), [1, 2], lambda what, num_more: None))
    mean = list(experiment.run_rivals([ITEM_MEAN], lambda what, num_more: None))
    judge = Judge(experiment, [*results[:3], *mean])  # type: ignore[list-item]
    assert judge.seeds(WHOLE, NO_GATE) == [1]
    assert judge.seeds(WHOLE, ITEM_MEAN) == [1, 2]
    gate, rival = (judge.compared(Contrast("gate", WHOLE, other)) for other in (NO_GATE, ITEM_MEAN))
    assert gate is not None
    assert rival is not None
    by_variant = [(result.variant, result.seed, result.auc) for result in results]
    whole, bare = (next(auc for name, seed, auc in by_variant if (name, seed) == (of, 1)) for of in (WHOLE, NO_GATE))
    assert gate.seeds == [1]
    assert whole is not None
    assert bare is not None
    assert gate.differences[ALL]["auc"].value == pytest.approx(whole - bare, abs=1e-9)
    assert gate.by_seed[ALL] == pytest.approx([whole - bare])
    assert gate.differences[ALL]["auc"].low < gate.differences[ALL]["auc"].high
    assert set(rival.differences[ALL]) == set(FIGURES)
    same = judge.compared(Contrast("whole", WHOLE, WHOLE))
    assert same is not None
    assert all(each.low == each.high == 0 for of in same.differences.values() for each in of.values())
    assert judge.compared(Contrast("masks", WHOLE, "fast, masks of ids")) is None
    # Cohorts of which hardly anybody is left say nothing.
    assert {"users < 10", "items 50-199"} <= set(judge.cohorts)
    assert "users 200+" not in judge.cohorts


def test_mean_weights_are_those_of_the_second_half_by_cohort(experiment: StreamExperiment) -> None:
    (variant,) = _chosen(ADAPTER)
    (result,) = experiment.run([variant], [1], lambda what, num_more: None)
    recipe = variant.recipe(experiment.recording.settings.recipe, 1)
    assert result.weight_names == weight_names(recipe)
    learner, weights, counts, seen = Learner(recipe), [], [], 0
    for block in experiment.recording.blocks(1024):
        learned = learner.learn(block)
        if seen >= experiment.recording.header.num_samples / 2:
            base = block.rows_B["kind"] <= SampleKind.POSITIVE
            assert learned.weights_BK is not None
            weights.append(learned.weights_BK[base])
            counts.append(block.rows_B["user_counts"][base, 0])
        seen += len(block)
    weights_NK, counts_N = np.concatenate(weights), np.concatenate(counts)
    found_CK = mean_by("users", experiment.weights(result))
    for cohort, (low, high) in enumerate(zip((0, *BOUNDS), (*BOUNDS, 10**9), strict=True)):
        of_cohort = (counts_N >= low) & (counts_N < high)
        if of_cohort.sum() >= 200:
            assert np.allclose(found_CK[cohort], weights_NK[of_cohort].mean(axis=0), atol=1e-5)
        else:
            assert np.isnan(found_CK[cohort]).all()
    (means,) = mean_weights(experiment, [result])
    assert np.array_equal(means.mean("users"), found_CK, equal_nan=True)
