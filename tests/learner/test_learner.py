from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from learner.checkpoint import read_latest, write_checkpoint
from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.learner import Learner
from learner.metrics import calibration
from learner.sample import Core, FeatureValue, Sample, SampleKind, State
from learner.snapshot import ServingModel, encode_snapshot
from learner.tables.embedding import EmbeddingTable

MODEL = ModelSettings(dim=4, hidden=(8,))


def make_samples(count: int, seed: int = 0, *, num_users: int = 30) -> list[Sample]:
    """Some users like more, some items are better, so there is something to learn."""
    rng = np.random.default_rng(seed)
    mildness, quality = rng.normal(size=num_users), rng.normal(size=40)
    out = []
    for n in range(count):
        u, i = int(rng.integers(num_users)), int(rng.integers(40))
        label = int(mildness[u] + quality[i] + 0.3 * rng.normal() > 0)
        core = Core(f"{n}", f"u{u}", f"i{i}", n * 1000, 0, [str(u % 5), [f"g{i % 7}", "g"], float(i), None][:3])
        state = State([n % 7, n % 3], 0.1 * (n % 5), 1, 0, [n % 11, n % 2], 0.2, 1)
        out.append(Sample(SampleKind(label), label, 5, core, state))
    return out


@pytest.fixture
def learner(fields: tuple[FieldSettings, ...]) -> Learner:
    return Learner(MODEL, LearnerSettings(), fields, 1)


def learn(learner: Learner, samples: list[Sample], size: int = 32) -> np.ndarray:
    return np.concatenate([learner.learn_many(samples[i : i + size]) for i in range(0, len(samples), size)])


def test_it_learns(learner: Learner) -> None:
    samples = make_samples(4000)
    predictions = learn(learner, samples)
    labels = np.array([s.label for s in samples])
    assert ((predictions[-1000:] > 0.5) == labels[-1000:]).mean() > 0.75
    assert ((predictions[:32] > 0.5) == labels[:32]).mean() < 0.65


def test_predictions_are_those_of_the_whole_stream_though_most_negatives_are_dropped(
    fields: tuple[FieldSettings, ...],
) -> None:
    rate, rng = 0.25, np.random.default_rng(1)
    stream = make_samples(12_000)
    kept = [
        msgspec.structs.replace(s, state=msgspec.structs.replace(s.state, negative_rate=rate))
        for s in stream[:10_000]
        if s.label or rng.random() < rate
    ]
    uncorrected = [s for s in stream[:10_000] if s.label or rng.random() < rate]
    rest = stream[10_000:]
    labels = np.array([s.label for s in rest], np.float32)
    calibrations = []
    for samples in (kept, uncorrected):
        learner = Learner(MODEL, LearnerSettings(), fields, 1)
        learn(learner, samples)
        calibrations.append(calibration(labels, learn(learner, rest, len(rest))))
    assert calibrations[0] == pytest.approx(1.0, abs=0.06)
    assert calibrations[1] > 1.1


def test_a_kept_negative_counts_for_those_that_were_dropped(learner: Learner) -> None:
    negative = next(s for s in make_samples(50) if not s.label)
    negative = msgspec.structs.replace(negative, state=msgspec.structs.replace(negative.state, negative_rate=0.25))
    learner.learn_many([negative])
    row = learner.table.rows_of[0][negative.core.user_id]
    before = learner.table.labels_R2[row].clone()
    learner.learn_many([msgspec.structs.replace(negative, kind=SampleKind.CORRECTION, label=1)])
    fresh = learner.table.labels_R2[0]
    assert before.tolist() == [fresh[0] + 4.0, fresh[1]]
    assert learner.table.labels_R2[row].tolist() == [fresh[0], fresh[1] + 1.0]


def test_predictions_are_made_before_learning(fields: tuple[FieldSettings, ...]) -> None:
    samples = make_samples(64)
    flipped = [Sample(s.kind, 1 - s.label, s.delay_ms, s.core, s.state) for s in samples]
    one, other = (Learner(MODEL, LearnerSettings(), fields, 1) for _ in range(2))
    np.testing.assert_array_equal(one.learn_many(samples), other.learn_many(flipped))
    assert not np.array_equal(one.learn_many(samples), other.learn_many(samples))


def test_the_same_seed_gives_the_same_run(fields: tuple[FieldSettings, ...]) -> None:
    samples = make_samples(300)
    a, b = (learn(Learner(MODEL, LearnerSettings(seed=3), fields, 1), samples) for _ in range(2))
    c = learn(Learner(MODEL, LearnerSettings(seed=4), fields, 1), samples)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_restored_learner_goes_on_as_if_nothing_had_happened(
    learner: Learner, fields: tuple[FieldSettings, ...], tmp_path: Path
) -> None:
    samples = make_samples(600)
    learn(learner, samples[:320])
    tensors, meta = learner.state()
    write_checkpoint(tmp_path, 1, tensors, {"learner": meta})
    expected = learn(learner, samples[320:])
    found = read_latest(tmp_path)
    assert found is not None
    restored = Learner(MODEL, LearnerSettings(seed=99), fields, 1)
    restored.restore(found.tensors, found.meta["learner"])
    np.testing.assert_array_equal(learn(restored, samples[320:]), expected)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b""])
def test_a_damaged_checkpoint_is_passed_over(learner: Learner, tmp_path: Path, damage) -> None:
    tensors, meta = learner.state()
    for number in (1, 2):
        path = write_checkpoint(tmp_path, number, tensors, {"learner": meta, "number": number})
    path.write_bytes(damage(path.read_bytes()))
    found = read_latest(tmp_path)
    assert found is not None
    assert found.meta["number"] == 1


def test_a_serving_model_predicts_what_the_learner_would(learner: Learner, fields: tuple[FieldSettings, ...]) -> None:
    samples = make_samples(400)
    learn(learner, samples[:200])
    serving = ServingModel(MODEL, LearnerSettings(), fields, 1)
    serving.load(encode_snapshot(learner, None))
    learner.table.take_touched()
    learn(learner, samples[200:320])
    serving.load(encode_snapshot(learner, learner.table.take_touched()))
    fresh = ServingModel(MODEL, LearnerSettings(), fields, 1)
    fresh.load(encode_snapshot(learner, None))
    probe = samples[320:352]
    served = serving.predict_many(probe)
    np.testing.assert_array_equal(served, fresh.predict_many(probe))
    known = [s for s in probe if s.core.user_id in learner.table.rows_of[0]]
    assert len(known) == len(probe)
    learner.dense.eval()
    batch = learner._collate(probe)
    rows = learner.table.values_RD[batch.rows_U]
    with torch.no_grad():
        np.testing.assert_allclose(served, torch.sigmoid(learner.dense(rows, batch).main_B).numpy(), atol=1e-6)


def test_unknown_ids_are_scored_without_rows(learner: Learner, fields: tuple[FieldSettings, ...]) -> None:
    learn(learner, make_samples(100))
    serving = ServingModel(MODEL, LearnerSettings(), fields, 1)
    serving.load(encode_snapshot(learner, None))
    stranger = make_samples(1)[0]
    core = Core("x", "nobody", "nothing", 0, 0, [None, [], None])
    assert np.isfinite(serving.predict_many([Sample(stranger.kind, 0, 0, core, stranger.state)])).all()


def test_occurrences_go_sample_by_sample_whatever_is_missing(learner: Learner) -> None:
    plain, bare, other = make_samples(3)
    features: list[FeatureValue] = [None, [], None]
    bare = msgspec.structs.replace(bare, core=msgspec.structs.replace(bare.core, features=features))
    batch = learner._collate([plain, bare, other])
    assert batch.sizes_BF.tolist() == [[1, 1, 1, 2, 1], [1, 1, 0, 0, 0], [1, 1, 1, 2, 1]]
    assert batch.offsets_BF.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 8, 8, 8, 9, 10, 11, 13]
    owners = [learner.table.owner[row] for row in batch.rows_U[batch.occurrence_N].tolist()]
    expected = []
    for core in (plain.core, bare.core, other.core):
        expected += [(0, core.user_id), (1, core.item_id)]
        if core is not bare.core:
            category, group, _ = core.features
            assert isinstance(group, list)
            expected += [(2, category), *((3, one) for one in group), (4, "")]
    assert owners == expected
    # Rows are given out in that order, too: they depend on it for what they start with.
    assert [row for n, row in enumerate(owners) if row not in owners[:n]] == learner.table.owner[1:]
    number = plain.core.features[2]
    assert isinstance(number, float)
    assert batch.weights_N[:6].tolist() == pytest.approx([1, 1, 1, 0.5, 0.5, np.log1p(number)])


@pytest.mark.parametrize(("place", "value"), [(0, ["a"]), (0, 1.0), (1, "letters"), (2, "1.5")])
def test_a_value_that_is_not_of_its_fields_kind_is_not_learned_from(
    learner: Learner, place: int, value: FeatureValue
) -> None:
    sample = make_samples(1)[0]
    sample.core.features[place] = value
    with pytest.raises(AssertionError, match="is declared"):
        learner.learn([sample])


def test_an_id_is_admitted_at_its_threshold() -> None:
    table = EmbeddingTable([3], 2, 0.1, 0.1, torch.Generator().manual_seed(0))
    assert [table.row(0, "a") for _ in range(4)] == [0, 0, 1, 1]
    assert len(table) == 1


def test_eviction_frees_rows_by_event_time_and_reuses_them() -> None:
    table = EmbeddingTable([1], 2, 0.1, 0.1, torch.Generator().manual_seed(0))
    rows = np.array([table.row(0, f"k{n}") for n in range(5)])
    assert table.touch(rows, np.arange(5) * 10).tolist() == [-1] * 5
    assert table.touch(rows[3:], np.array([35, 35])).tolist() == [5, 0], "an age is never negative"
    assert table.evict(before_ts=25) == 3
    assert set(table.rows_of[0]) == {"k3", "k4"}
    assert table.take_evicted() == [(0, "k0"), (0, "k1"), (0, "k2")]
    row = table.row(0, "new")
    assert row <= 5
    assert table.owner[row] == (0, "new")


def test_a_table_grows_without_moving_ids() -> None:
    table = EmbeddingTable([1], 2, 0.1, 0.1, torch.Generator().manual_seed(0))
    rows = [table.row(0, f"k{n}") for n in range(3000)]
    before = table.values_RD[rows[0]].clone()
    assert len(set(rows)) == 3000
    assert [table.row(0, f"k{n}") for n in range(3000)] == rows
    assert torch.equal(table.values_RD[rows[0]], before)


def test_only_touched_rows_change(learner: Learner) -> None:
    learn(learner, make_samples(200))
    learner.table.take_touched()
    before = learner.table.values_RD.clone()
    learner.learn_many(make_samples(4, seed=9))
    changed = set(torch.nonzero((learner.table.values_RD != before).any(1)).flatten().tolist())
    touched = set(learner.table.take_touched().tolist())
    assert changed
    assert changed <= touched
    assert len(touched) < len(learner.table)


def test_adagrad_is_torchs() -> None:
    torch.manual_seed(0)
    table = EmbeddingTable([1], 3, 0.1, 0.2, torch.Generator().manual_seed(0))
    rows = torch.tensor([table.row(0, k) for k in "ab"])
    reference = torch.nn.Parameter(table.values_RD[rows].clone())
    optimiser = torch.optim.Adagrad([reference], lr=0.2)
    for _ in range(3):
        grad = torch.randn(2, 5)
        reference.grad = grad.clone()
        optimiser.step()
        table.step(rows, table.values_RD[rows], grad.clone(), torch.zeros(2, 2))
    assert torch.allclose(table.values_RD[rows][:, :4], reference.detach()[:, :4], atol=1e-6)


def test_rates_are_log_odds_of_the_labels_seen_and_corrections_take_negatives_back(learner: Learner) -> None:
    core, state = make_samples(1)[0].core, make_samples(1)[0].state
    kinds = [SampleKind.NEGATIVE, SampleKind.NEGATIVE, SampleKind.POSITIVE, SampleKind.CORRECTION]
    learner.learn_many([Sample(kind, int(kind > 0), 0, core, state) for kind in kinds])
    row = learner.table.rows_of[0][core.user_id]
    assert learner.table.values_RD[row, -1].item() == pytest.approx(np.log((2 + 2.5) / (1 + 2.5)), abs=1e-5)
    learner.learn_many([Sample(SampleKind.NEGATIVE, 0, 0, core, state)])
    assert learner.table.values_RD[row, -1].item() == pytest.approx(np.log((2 + 2.5) / (2 + 2.5)), abs=1e-5)


@pytest.mark.parametrize("interaction", ["dcnv2", "fm"])
def test_every_interaction_model_learns_under_the_wrapper(interaction: str, fields: tuple[FieldSettings, ...]) -> None:
    learner = Learner(ModelSettings(interaction=interaction, dim=4), LearnerSettings(), fields, 1)
    samples = make_samples(3000)
    predictions, labels = learn(learner, samples), np.array([s.label for s in samples])
    assert ((predictions[-1000:] > 0.5) == labels[-1000:]).mean() > 0.7


@pytest.mark.parametrize("remedy", ["fnw", "fnc"])
def test_with_immediate_negatives_both_remedies_are_calibrated_and_the_plain_loss_is_not(
    remedy: str, fields: tuple[FieldSettings, ...]
) -> None:
    """Every impression is a negative first; positives (of known share) come once more, as corrections."""
    truth, rng = 0.3, np.random.default_rng(0)
    stream: list[Sample] = []
    for sample in make_samples(6000):
        stream.append(Sample(SampleKind.NEGATIVE, 0, -1, sample.core, sample.state))
        if rng.random() < truth:
            stream.append(Sample(SampleKind.CORRECTION, 1, 5, sample.core, sample.state))
    model = ModelSettings(dim=4, hidden=(8,), rates=False)
    calibrated = learn(Learner(model, LearnerSettings(delayed_feedback=remedy), fields, 1), stream)
    plain = learn(Learner(model, LearnerSettings(), fields, 1), stream)
    assert calibrated[-2000:].mean() == pytest.approx(truth, abs=0.04)
    assert plain[-2000:].mean() == pytest.approx(truth / (1 + truth), abs=0.03)
