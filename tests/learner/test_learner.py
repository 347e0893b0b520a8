"""The learner as a whole, and what it publishes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from learner.checkpoints.folder import read_latest, write_checkpoint
from learner.config import LearnerSettings, ModelSettings
from learner.fast.config import CrossSettings, FastSettings
from learner.fast.layout import component_names
from learner.learned import Learned, joined
from learner.learner import Learner
from learner.metrics import calibration
from learner.parts import weight_names
from learner.recipe import Recipe
from learner.samples.columns import blocks
from learner.samples.former import Sample
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.snapshot import ServingModel, encode_snapshot, take_changed
from tests.learner import checkpoints
from tests.learner.fast.records import FIELDS, changed, make_records, to_samples
from tests.learner.fast.streams import assert_equal

DAY_MS = 86_400_000
DEEP = {"dim": 4, "hidden": (8,)}
MODELS = {
    "fast": ModelSettings(),
    "fast + dcnv2": ModelSettings(deep="dcnv2", **DEEP),
    "fast + fm": ModelSettings(deep="fm", **DEEP),
    "dcnv2": ModelSettings(fast=False, deep="dcnv2", **DEEP),
    "fm": ModelSettings(fast=False, deep="fm", **DEEP),
}
BOTH = MODELS["fast + dcnv2"]
kinds_of_model = pytest.mark.parametrize("model", [MODELS[name] for name in MODELS], ids=list(MODELS))
kinds_of_part = pytest.mark.parametrize("model", [MODELS[name] for name in ("fast", "fast + dcnv2", "dcnv2")])


def make_recipe(model: ModelSettings = MODELS["fast"], fast: dict[str, Any] | None = None, **learner: Any) -> Recipe:
    return Recipe(
        FIELDS,
        model=model,
        fast=FastSettings(max_rows=5_000, max_cross_rows=20_000, counted_ids=100, **(fast or {})),
        crosses=(CrossSettings(("user_id", "genres")),),
        learner=LearnerSettings(**{"micro_batch": 32, **learner}),
    )


def learn(learner: Learner, records: Sequence[Sample], size: int = 500) -> Learned:
    return joined([learner.learn(part) for part in blocks(to_samples(records, learner.fields), size)])


def labels_of(records: Sequence[Sample]) -> np.ndarray:
    return np.array([record.label for record in records], np.float32)


def logit(p: np.ndarray) -> np.ndarray:
    p = p.astype(np.float64)
    return np.log(p / (1 - p))


@kinds_of_model
def test_it_learns(model: ModelSettings) -> None:
    records = make_records(4000)
    right = (learn(Learner(make_recipe(model)), records).predictions_B > 0.5) == labels_of(records)
    assert right[-1000:].mean() > 0.78
    assert right[:32].mean() < 0.7


@kinds_of_model
def test_predictions_are_those_of_the_whole_stream_though_most_negatives_are_dropped(model: ModelSettings) -> None:
    rate, rng = 0.25, np.random.default_rng(1)
    records = make_records(12_000, seed=1)
    stream, rest = records[:10_000], records[10_000:]
    uncorrected = [record for record in stream if record.label or rng.random() < rate]
    kept = [changed(record, negative_rate=rate) for record in uncorrected]
    ratios = []
    for some in (kept, uncorrected):
        learner = Learner(make_recipe(model))
        learn(learner, some)
        ratios.append(calibration(labels_of(rest), would_say(learner, rest).predictions_B))
    assert ratios[0] == pytest.approx(1.0, abs=0.06)
    assert ratios[1] > 1.1


@kinds_of_part
def test_predictions_are_made_before_learning(model: ModelSettings) -> None:
    """Of a deep part's whole block, and of the first sample otherwise: what comes behind it has learned from it."""
    records = make_records(300)
    flipped = [changed(record, kind=SampleKind(1 - record.label), label=1 - record.label) for record in records[-20:]]
    one, other = (Learner(make_recipe(model)) for _ in range(2))
    size = 1 if model.fast else 20
    for learner in (one, other):
        learn(learner, records[:-20], 20)
    first, second = learn(one, records[-20:]), learn(other, flipped)
    for name in ("predictions_B", "ranks_B", "norms_B2", "unseen_B2", "weights_BK"):
        assert getattr(first, name) is not None
        np.testing.assert_array_equal(getattr(first, name)[:size], getattr(second, name)[:size], err_msg=name)
    again = (learn(learner, records[:20]).predictions_B for learner in (one, other))
    assert not np.array_equal(*again)


@kinds_of_model
def test_the_same_seed_gives_the_same_run(model: ModelSettings) -> None:
    records = make_records(300)
    a, b, c = (learn(Learner(make_recipe(model, seed=seed)), records).predictions_B for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("size", [1, 7, 250])
def test_without_a_deep_part_blocks_of_any_size_give_the_same_run(size: int) -> None:
    records = with_late_positives(make_records(1200), every=3)
    whole, cut = (Learner(make_recipe(fast={"levels": True})) for _ in range(2))
    expected, got = learn(whole, records, len(records)), learn(cut, records, size)
    for name in ("predictions_B", "ranks_B", "weights_BK", "labels_B", "corrections_B", "sizes_BF"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    assert_equal(cut.state()[0], whole.state()[0])
    assert (cut.num_samples, cut.max_ts) == (whole.num_samples, whole.max_ts)


def test_without_a_deep_part_who_was_unseen_does_not_depend_on_blocks_either() -> None:
    records = make_records(200)
    records[30:60] = [changed(record, kind=SampleKind.SHOWN) for record in records[30:60]]
    records[:3] = [changed(record, kind=SampleKind.SHOWN) for record in records[:3]]
    whole, cut = (learn(Learner(make_recipe()), records, size) for size in (200, 1))
    for column, name in enumerate(("user_id", "item_id")):
        seen, expected = set[str](), []
        for record in records:
            expected.append(getattr(record.core, name) not in seen)
            if record.kind is not SampleKind.SHOWN:
                seen.add(getattr(record.core, name))
        assert cut.unseen_B2[:, column].tolist() == expected
    np.testing.assert_array_equal(whole.unseen_B2, cut.unseen_B2)


@kinds_of_model
def test_a_restored_learner_goes_on_as_if_nothing_had_happened(model: ModelSettings, tmp_path: Path) -> None:
    records = with_late_positives(make_records(900), every=4)
    recipe = make_recipe(model, embedding_ttl_days=1)
    learner = Learner(recipe)
    learn(learner, records[:500])
    learner.evict_stale()
    checkpoints.write(learner, tmp_path)
    expected = learn(learner, records[500:])
    restored = Learner(recipe)
    learn(restored, records[100:300])
    checkpoints.restore(restored, tmp_path)
    got = learn(restored, records[500:])
    for name in ("predictions_B", "ranks_B", "norms_B2", "unseen_B2", "weights_BK"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    assert_equal(restored.state()[0], learner.state()[0])
    assert restored.state()[1] == learner.state()[1]


@kinds_of_part
def test_a_state_stays_what_it_was_while_learning_goes_on(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    learn(learner, make_records(200))
    arrays, _ = learner.state()
    before = {name: array.copy() for name, array in arrays.items()}
    learn(learner, make_records(200, seed=1))
    assert_equal(arrays, before)


@pytest.mark.parametrize(
    ("saved", "here"),
    [("fast", "fast + fm"), ("fast + fm", "fast"), ("fast", "fm"), ("fm", "fast"), ("fm", "fast + fm")],
)
def test_a_state_of_a_model_with_other_parts_is_refused(saved: str, here: str) -> None:
    with pytest.raises(ValueError, match=r"has values .*settings have changed"):
        Learner(make_recipe(MODELS[here])).restore(*Learner(make_recipe(MODELS[saved])).state())


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b""])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    arrays, meta = Learner(make_recipe(BOTH)).state()
    for number in (1, 2):
        made = write_checkpoint(tmp_path, number, arrays, {"learner": meta, "number": number})
    path = tmp_path / made.segments[-1].name
    path.write_bytes(damage(path.read_bytes()))
    found = read_latest(tmp_path)
    assert found is not None
    assert found.meta["number"] == 1
    assert_equal(found.arrays, arrays)


# What is served ----------------------------------------------------------------------------------------------------


def serving(learner: Learner) -> ServingModel:
    model = ServingModel(learner.recipe)
    model.load(encode_snapshot(learner, None))
    return model


def as_known(learner: Learner, records: Sequence[Sample]) -> list[Sample]:
    """With the norms that the store would give: those of the learner."""
    samples = to_samples(records)
    norms = zip(learner.norms_of(samples.user_keys), learner.norms_of(samples.item_keys), strict=True)
    return [
        changed(record, user_norm=float(user), item_norm=float(item))
        for record, (user, item) in zip(records, norms, strict=True)
    ]


def would_say(learner: Learner, records: Sequence[Sample]) -> Learned:
    """What the learner would say of each sample, were it the next; nothing of it stays."""
    if learner.deep is not None:
        learner.deep.dense.eval()
        learner.deep.dense.train = lambda mode=True: learner.deep.dense  # type: ignore[method-assign, union-attr]
    shown = [changed(record, kind=SampleKind.SHOWN) for record in records]
    with torch.no_grad():
        return learner.learn(to_samples(shown))


@kinds_of_model
def test_a_serving_model_predicts_what_the_learner_would(model: ModelSettings) -> None:
    """After a full snapshot, after deltas, and after ids have been evicted and have come back."""
    records = make_records(700)
    moved = [changed(record, ts=record.core.ts + 2 * DAY_MS) for record in records[300:]]
    learner = Learner(make_recipe(model, embedding_ttl_days=1))
    learn(learner, records[:200])
    take_changed(learner)
    scorer = serving(learner)
    # Some of the users and items only from now on.
    later = [record for record in moved if record.core.user_id < "u2" and record.core.item_id < "i3"]
    learn(learner, later[:40])
    assert learner.evict_stale() > 20
    learn(learner, moved[100:130])
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    learn(learner, moved[130:200])
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    scorer.load(encode_snapshot(learner, take_changed(learner)))
    probe = as_known(learner, moved[200:300])
    served = scorer.predict(to_samples(probe))
    fresh = serving(learner).predict(to_samples(probe))
    np.testing.assert_array_equal(served.predictions_B, fresh.predictions_B)
    np.testing.assert_array_equal(served.ranks_B, fresh.ranks_B)
    assert served.predictions_B.std() > 0.03
    expected = would_say(learner, probe)
    np.testing.assert_allclose(served.predictions_B, expected.predictions_B, atol=1e-6)
    np.testing.assert_allclose(served.ranks_B, expected.ranks_B, atol=1e-5)


@pytest.mark.parametrize("model", [MODELS["fast"], BOTH])
@pytest.mark.parametrize("gate", [True, False])
def test_the_parts_that_are_explained_add_up_to_the_logit(model: ModelSettings, gate: bool) -> None:
    learner = Learner(make_recipe(model, {"gate": gate}))
    learn(learner, make_records(1000))
    scorer = serving(learner)
    for record in make_records(20, seed=1):
        samples = to_samples([record])
        parts = scorer.explain(samples)
        total = sum(part.component * part.weight for part in parts)
        assert total == pytest.approx(logit(scorer.predict(samples).predictions_B)[0], abs=1e-4)
        names = component_names(learner.recipe.fast_recipe, has_deep=model.deep != "none")
        assert [part.part for part in parts] == [*names, "state"]
        assert gate or {part.weight for part in parts} == {1.0}


def test_a_deep_part_alone_is_explained_by_itself() -> None:
    learner = Learner(make_recipe(MODELS["fm"]))
    learn(learner, make_records(300))
    samples, scorer = to_samples(make_records(1, seed=1)), serving(learner)
    (part,) = scorer.explain(samples)
    assert part.component * part.weight == pytest.approx(logit(scorer.predict(samples).predictions_B)[0], abs=1e-4)


@kinds_of_model
def test_unknown_ids_are_scored_without_rows(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    learn(learner, make_records(100))
    scorer = serving(learner)
    stranger = changed(
        make_records(1)[0], user_id="nobody", item_id="nothing", features=[None, [], None], user_norm=0.0, item_norm=0.0
    )
    other = changed(stranger, user_id="nobody else", features=["unheard of", ["new"], -1e9])
    scores = scorer.predict(to_samples([stranger, other]))
    assert np.isfinite(scores.predictions_B).all()
    num_rows = learner.table.num_rows
    assert would_say(learner, [stranger]).predictions_B[0] == pytest.approx(scores.predictions_B[0], abs=1e-6)
    assert learner.table.num_rows == num_rows
    if model.fast and model.deep == "none":
        # What is not known adds nothing: one that nothing is known of is as one of whom nothing is said.
        assert scores.predictions_B[0] == scores.predictions_B[1]
        said = {part.part: part.component for part in scorer.explain(to_samples([stranger]))}
        assert {said[name] for name in ("user", "item", "user.item", "user_id x genres")} == {0.0}


# What is learned from, and how -------------------------------------------------------------------------------------


@kinds_of_part
@pytest.mark.parametrize("kind", [SampleKind.SHOWN, SampleKind.TASK_CORRECTION])
def test_what_brings_no_label_of_the_main_task_changes_nothing(kind: SampleKind, model: ModelSettings) -> None:
    learner = Learner(make_recipe(model, embedding_ttl_days=1))
    learn(learner, make_records(300))
    take_changed(learner)
    before, meta = learner.state()
    before = {name: array.copy() for name, array in before.items()}
    newcomers = [changed(record, kind=kind, user_id=f"new {n}") for n, record in enumerate(make_records(50, seed=5))]
    said = learn(learner, newcomers)
    assert np.isfinite(said.predictions_B).all()
    assert_equal(learner.state()[0], before)
    assert learner.state()[1] == meta
    assert [len(rows) for rows in take_changed(learner).rows] == [0] * len(take_changed(learner).rows)


@kinds_of_part
def test_samples_that_are_not_learned_change_nothing_of_those_beside_them(model: ModelSettings) -> None:
    records = make_records(64)
    mixed = [other for record in records for other in (changed(record, kind=SampleKind.SHOWN, label=0), record)]
    # Masks are drawn for all of a block, so they are others when there are more.
    recipe = make_recipe(msgspec.structs.replace(model, num_masks=0), micro_batch=128)
    alone, beside = Learner(recipe), Learner(recipe)
    expected, got = learn(alone, records), learn(beside, mixed)
    np.testing.assert_allclose(got.predictions_B[1::2], expected.predictions_B, atol=1e-6)
    after = make_records(20, seed=1)
    np.testing.assert_allclose(learn(beside, after).predictions_B, learn(alone, after).predictions_B, atol=1e-6)


def with_late_positives(records: Sequence[Sample], *, every: int = 1, delay: int = 40) -> list[Sample]:
    """The positives, or one in so many, are negatives first and come later, once more, as corrections."""
    due: list[tuple[int, Sample]] = []
    out: list[Sample] = []
    num_positives = 0
    for n, record in enumerate(records):
        while due and due[0][0] <= n:
            out.append(due.pop(0)[1])
        num_positives += record.label
        if record.label and num_positives % every == 0:
            out.append(changed(record, kind=SampleKind.NEGATIVE, label=0))
            due.append((n + delay, changed(record, kind=SampleKind.CORRECTION)))
        else:
            out.append(record)
    return out + [record for _, record in due]


@kinds_of_part
def test_undoing_negatives_keeps_predictions_calibrated_where_learning_them_does_not(model: ModelSettings) -> None:
    records = make_records(9000)
    stream = with_late_positives(records[:7000])
    ratios = {}
    for remedy in ("undo", "none"):
        learner = Learner(make_recipe(model, delayed_feedback=remedy))
        learn(learner, stream)
        # From here on every label comes at once: it is what is said of these that counts.
        said = would_say(learner, records[7000:])
        ratios[remedy] = calibration(labels_of(records[7000:]), said.predictions_B)
    assert ratios["undo"] == pytest.approx(1.0, abs=0.06)
    assert ratios["none"] < 0.85


def settled(stream: Sequence[Sample], *, after: int) -> list[Sample]:
    """With a sample behind each negative that has not turned, so many samples later, that says so."""
    turned = {record.core.imp_id for record in stream if record.kind == SampleKind.CORRECTION}
    out: list[Sample] = []
    due: list[tuple[int, Sample]] = []
    for n, record in enumerate(stream):
        while due and due[0][0] <= n:
            out.append(due.pop(0)[1])
        out.append(record)
        if record.kind == SampleKind.NEGATIVE and record.core.imp_id not in turned:
            due.append((n + after, changed(record, kind=SampleKind.SETTLED)))
    return out + [record for _, record in due]


def test_negatives_that_are_believed_only_so_far_leave_no_bias_while_others_are_waited_for() -> None:
    """Every other positive is late, so there are always some on their way; asked just behind the last impression."""
    records = make_records(9000)
    stream, rest = with_late_positives(records[:7000], every=2, delay=500), records[7000:]
    ratios = {}
    for settles in (True, False):
        learner = Learner(msgspec.structs.replace(make_recipe(), settles=settles))
        given = settled(stream, after=600) if settles else stream
        bases = [n for n, record in enumerate(given) if record.kind <= SampleKind.POSITIVE]
        learn(learner, given[: bases[-1] + 1])
        ratios[settles] = calibration(labels_of(rest), would_say(learner, rest).predictions_B)
    assert ratios[True] == pytest.approx(1.0, abs=0.06)
    assert ratios[False] < 0.8


def test_settling_is_the_same_in_blocks_of_any_size_and_after_a_restore() -> None:
    stream = settled(with_late_positives(make_records(900), every=2, delay=70), after=90)
    recipe = msgspec.structs.replace(make_recipe(), settles=True)
    whole = learn(Learner(recipe), stream, len(stream))
    for size in (1, 13):
        learner = Learner(recipe)
        before = learn(learner, stream[:400], size)
        other = Learner(recipe)
        other.restore(*learner.state())
        rest = learn(other, stream[400:], size)
        np.testing.assert_array_equal(joined([before, rest]).predictions_B, whole.predictions_B)
        assert other.fast is not None
        # What was waited for has come, of each impression.
        assert other.fast.beliefs.num_rows == 0


@kinds_of_part
@pytest.mark.parametrize("remedy", ["fnw", "fnc"])
def test_with_immediate_negatives_both_remedies_are_calibrated_and_the_plain_loss_is_not(
    remedy: str, model: ModelSettings
) -> None:
    """Every impression is a negative first; positives (of known share) come once more, as corrections."""
    truth, rng = 0.3, np.random.default_rng(0)
    stream: list[Sample] = []
    for record in make_records(6000):
        stream.append(changed(record, kind=SampleKind.NEGATIVE, label=0, delay_ms=-1))
        if rng.random() < truth:
            stream.append(changed(record, kind=SampleKind.CORRECTION, label=1))
    remedied, plain = (
        learn(Learner(make_recipe(model, delayed_feedback=how)), stream).predictions_B for how in (remedy, "none")
    )
    assert remedied[-2000:].mean() == pytest.approx(truth, abs=0.04)
    assert plain[-2000:].mean() == pytest.approx(truth / (1 + truth), abs=0.03)


# Ids come and go ---------------------------------------------------------------------------------------------------


def keys_of(field: str, *values: str) -> np.ndarray:
    return np.array([value_key(field, value) for value in values], np.uint64)


@kinds_of_part
def test_ids_beyond_their_time_to_live_are_evicted_by_event_time(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model, embedding_ttl_days=2))
    old = [changed(record, user_id=f"old {n}") for n, record in enumerate(make_records(20))]
    learn(learner, old)
    assert learner.evict_stale() == 0
    learn(learner, [changed(record, ts=record.core.ts + 3 * DAY_MS) for record in make_records(20, seed=1)])
    num_rows, users = learner.table.num_rows, keys_of("user_id", *(f"old {n}" for n in range(20)))
    assert learner.table.find(users).all()
    num_evicted = learner.evict_stale()
    assert num_evicted >= 20
    assert not learner.table.find(users).any()
    assert learner.table.num_rows < num_rows
    assert not learner.norms_of(users).any()
    if learner.fast is not None:
        # Their crosses go with them.
        assert learner.fast.cross_table.num_rows < num_evicted
    assert learner.evict_stale() == 0


def test_of_what_was_believed_and_never_settled_nothing_is_left_behind_its_time_to_live() -> None:
    """Not even a list of it: beliefs are not published, so nobody would ever take that."""
    learner = Learner(msgspec.structs.replace(make_recipe(embedding_ttl_days=2), settles=True))
    assert learner.fast is not None
    negatives = [record for record in make_records(80) if record.kind == SampleKind.NEGATIVE]
    for day in (0, 3, 6):
        learn(
            learner,
            [
                changed(r, imp_id=f"{day} {n}", user_id=f"{day} {n}", ts=r.core.ts + day * DAY_MS)
                for n, r in enumerate(negatives)
            ],
        )
        assert learner.evict_stale() >= (len(negatives) if day else 0)
        assert learner.fast.beliefs.num_rows == len(negatives) > 20
        assert learner.fast.covariances.num_rows == len({f"{day} {n}" for n in range(len(negatives))})
        assert learner.fast.beliefs.evicted == learner.fast.covariances.evicted == []
    assert learner.table.evicted != []


def test_without_a_time_to_live_nothing_is_evicted() -> None:
    learner = Learner(make_recipe())
    learn(learner, [changed(record, ts=n * 400 * DAY_MS) for n, record in enumerate(make_records(20))])
    assert learner.evict_stale() == 0


def test_an_id_has_a_row_from_its_threshold_on() -> None:
    fields = tuple(msgspec.structs.replace(f, min_count=3) if f.name == "item_id" else f for f in FIELDS)
    learner = Learner(msgspec.structs.replace(make_recipe(), fields=fields))
    record = make_records(1)[0]
    shown = changed(record, kind=SampleKind.SHOWN)
    found = []
    for one in (record, shown, shown, record, shown, record):
        learn(learner, [one])
        found.append(bool(learner.table.find(keys_of("item_id", record.core.item_id))[0]))
    assert found == [False] * 5 + [True]


@kinds_of_part
def test_norms_are_those_of_the_embeddings(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    learn(learner, make_records(400))
    users = keys_of("user_id", "u1", "u2", "nobody")
    values = learner.table.values["v"] if model.fast else learner.table.values["deep"][:, :-1]
    expected = [np.linalg.norm(values[row]) for row in learner.table.find(users)]
    assert learner.norms_of(users).tolist() == pytest.approx(expected)
    assert expected[0] > expected[2] == 0
    record = changed(make_records(1)[0], user_id="u1")
    assert learn(learner, [record]).norms_B2[0, 0] == pytest.approx(expected[0])


@kinds_of_part
def test_ids_are_unseen_until_they_were_learned_from(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    record = changed(make_records(1)[0], user_id="a", item_id="b")
    said = []
    for one in (changed(record, kind=SampleKind.SHOWN), record, record, changed(record, item_id="c")):
        said.append(learn(learner, [one]).unseen_B2[0].tolist())
    assert said == [[True, True], [True, True], [False, False], [False, True]]


@kinds_of_part
def test_ages_are_those_of_what_was_learned_last(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    first = changed(make_records(1)[0], features=["x", [], None], ts=5_000)
    ages = [learn(learner, [first]).ages_N]
    ages += [learn(learner, [first]).ages_N for _ in range(15)]
    later = learn(learner, [changed(first, item_id="new", ts=5_700)])
    assert ages[0] is not None
    assert ages[0].tolist() == [-1, -1, -1]
    assert ages[1:] == [None] * 15, "it is dear: one block in sixteen says it"
    assert later.ages_N is not None
    assert later.ages_N.tolist() == [700, -1, 700]
    assert later.sizes_BF is not None
    assert later.ages_N.size == later.sizes_BF.sum()


def test_ages_are_told_of_blocks_that_are_learned_in_parts_too() -> None:
    learner = Learner(make_recipe(BOTH, micro_batch=32))
    told = [learned for n in range(20) if (learned := learn(learner, make_records(64, seed=n))).ages_N is not None]
    assert told
    for learned in told:
        assert learned.ages_N is not None
        assert learned.sizes_BF is not None
        assert learned.ages_N.size == learned.sizes_BF.sum()


def test_what_is_taken_of_a_block_keeps_its_ages() -> None:
    learned = learn(Learner(make_recipe()), make_records(30))
    chosen = np.arange(30) % 3 == 0
    some = learned.take(chosen)
    assert learned.ages_N is not None
    assert learned.sizes_BF is not None
    assert some.ages_N is not None
    owners = np.repeat(np.arange(30), learned.sizes_BF.sum(1))
    np.testing.assert_array_equal(some.ages_N, learned.ages_N[chosen[owners]])
    np.testing.assert_array_equal(some.predictions_B, learned.predictions_B[chosen])
    np.testing.assert_array_equal(some.sizes_BF, learned.sizes_BF[chosen])


@kinds_of_model
def test_what_state_makes_each_part_count_has_a_name_each(model: ModelSettings) -> None:
    for adapter in (True, False):
        recipe = make_recipe(msgspec.structs.replace(model, adapter=adapter))
        weights_BK = learn(Learner(recipe), make_records(40)).weights_BK
        names = weight_names(recipe)
        assert (0 if weights_BK is None else weights_BK.shape[1]) == len(names) == len(set(names))
        assert weights_BK is None or (weights_BK > 0).all()


@kinds_of_part
def test_what_diverges_is_seen(model: ModelSettings) -> None:
    learner = Learner(make_recipe(model))
    learn(learner, make_records(100))
    assert learner.is_finite
    for name in ("w", "v", "deep"):
        if name in learner.table.values:
            learner.table.values[name][1:] = np.nan
    learn(learner, make_records(100))
    assert not learner.is_finite
