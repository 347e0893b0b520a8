"""What new items start with, on a stream with items withheld until its middle."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.logs import synthetic_log

from learner.fast.inputs.occurrences import occurrences_of, plan_of
from learner.learner import Learner
from learner.parts import ids_of
from learner.samples.columns import Samples, concatenate
from learner.samples.kind import SampleKind
from simulators.commands.options import UsageError
from simulators.commands.starts.new_items import run as run_command
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.new_items.arms import CATEGORY, CONTENT, DROPOUT, IDS, META, RANDOM, WHOLE, arm
from simulators.experiments.new_items.judge import LATE, LIMITS, LOG_LOSS, SERVED_AUC, WITHHELD, NewItemsJudge
from simulators.experiments.new_items.meta import GivenMeta, MetaStarts
from simulators.experiments.new_items.run import NewItems, NewItemsResult
from simulators.experiments.new_items.withheld import Withheld
from simulators.experiments.reporting.new_items import report
from simulators.experiments.stream.recorded import Recording, obtain
from simulators.replay import ReplaySettings
from stream.settings import load_settings

SHARE = 0.3


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    log = synthetic_log(1200, seed=1)
    starts = ["content_start.category=genres", "content_start.every=100", "content_start.evidence=0.5"]
    settings = load_settings(environment={}, defaults=log.settings, overrides=starts)
    return obtain(settings, log, ReplaySettings(), tmp_path_factory.mktemp("recordings"), lambda what: None)


def whole(recording: Recording) -> Samples:
    return concatenate(list(recording.blocks(100)))


def test_items_that_are_withheld_come_at_the_middle_as_if_they_had_never_been_there(recording: Recording) -> None:
    samples, num_samples = whole(recording), recording.header.num_samples
    stream = Withheld(recording, SHARE, 5, num_samples)
    left = concatenate(list(stream.blocks(64)))
    middle = num_samples // 2
    keys, impressions = samples.item_keys, samples.rows_B["imp_key"]
    drawn = set(keys[stream.is_drawn_T].tolist())
    assert 0.1 < len(drawn) / len(set(keys.tolist())) < 0.5
    # An item that comes late by itself is not drawn; what is not drawn is there as it was.
    assert drawn <= set(keys[:middle].tolist())
    others = ~stream.is_drawn_T
    assert stream.kept_T[others].all()
    assert left.rows_B[others[stream.kept_T]].tobytes() == samples.rows_B[others].tobytes()
    early = set(impressions[:middle].tolist())
    expected = [
        bool(key not in drawn or impression not in early) for key, impression in zip(keys, impressions, strict=True)
    ]
    assert stream.kept_T.tolist() == expected
    # Its counters begin at 0, and count on as before.
    for key in drawn & set(left.item_keys.tolist()):
        now, before = left.rows_B[left.item_keys == key], samples.rows_B[stream.kept_T & (keys == key)]
        assert now["item_counts"].min() == 0
        np.testing.assert_array_equal(np.diff(now["item_counts"], axis=0), np.diff(before["item_counts"], axis=0))
        np.testing.assert_array_equal(stream.numbers_T[stream.kept_T & (keys == key)], now["item_counts"][:, 0])
    assert (stream.numbers_T[~stream.kept_T] == -1).all()


def test_arms_are_compared_on_the_same_first_impressions_and_kept(recording: Recording, tmp_path: Path) -> None:
    kept = Kept(tmp_path, NewItemsResult)
    experiment = NewItems(recording, kept, SHARE, 20)
    told: list[str] = []
    results = list(experiment.run([RANDOM, CATEGORY, CONTENT], [WHOLE], [1, 2], told.append))
    assert len(told) == len(results) == 6
    again = list(experiment.run([RANDOM, CATEGORY, CONTENT], [WHOLE], [1, 2], told.append))
    assert (again, len(told)) == (results, 6)
    judge = NewItemsJudge(experiment, results)
    sizes = [judge.sizes(WHOLE, RANDOM, WITHHELD, limit) for limit in LIMITS]
    assert sizes == sorted(sizes)
    seed = results[0].seed
    numbers_N, is_drawn_N = experiment.chosen(seed)
    assert judge.seeds(WHOLE, RANDOM, CONTENT) == [1, 2]
    # By hand: the log-loss of one seed.
    scores, chosen_N = experiment.scores(results[0]), (numbers_N >= 0) & (numbers_N < 5) & is_drawn_N
    alone = NewItemsJudge(experiment, results[:1])
    p_N, labels_N = scores.predictions_N[chosen_N], experiment.truth.labels_N[chosen_N]
    expected = -np.log(np.where(labels_N, p_N, 1 - p_N)).mean()
    assert alone.figure(WHOLE, RANDOM, WITHHELD, LOG_LOSS, 5) == pytest.approx(expected, rel=1e-5)
    # What is old is predicted alike by all before the middle, and not behind it.
    first, third = (experiment.scores(result).predictions_N for result in (results[0], results[2]))
    assert np.nanmax(np.abs(first - third)) > 1e-3
    text = report(experiment, results, "the command")
    assert "the command" in text
    assert text.count(f"| {CONTENT} |") == 3 * 2
    assert np.isfinite(judge.difference(WHOLE, (CONTENT, RANDOM), LATE, SERVED_AUC, 50).low)
    with pytest.raises(KeptError, match="other samples or settings"):
        NewItems(recording, kept, 0.1, 20).find(RANDOM, WHOLE, 1)


def test_to_the_model_of_ids_an_item_is_its_id_alone(recording: Recording) -> None:
    own = recording.settings.recipe
    recipe = arm(CONTENT, IDS).recipe(own, 3)
    assert (recipe.crosses, recipe.content_start.method, recipe.learner.seed) == ((), "nearest", 3)
    assert recipe.fields == own.fields
    assert recipe.fast.content.rate < 1e-6 < own.fast.content.rate
    assert msgspec.structs.replace(recipe.fast, content=own.fast.content) == own.fast


def learned_with_meta(recording: Recording) -> tuple[Learner, MetaStarts, Samples]:
    learner = Learner(arm(META).recipe(recording.settings.recipe, 3))
    given = GivenMeta(learner)
    (starts,) = learner.fast.starts
    samples = whole(recording)
    for begin in range(0, len(samples), 200):
        learner.learn(given(samples.slice(begin, begin + 200)))
    return learner, starts, samples


def test_meta_embedding_is_taught_what_the_model_would_say_with_any_values_of_an_item(recording: Recording) -> None:
    learner, starts, _ = learned_with_meta(recording)
    assert len(starts.losses) > 20
    assert np.mean(starts.losses[-10:]) < np.mean(starts.losses[:10])
    drawn, places_IK, keys_I = starts._draw()
    assert (drawn.item_keys[places_IK] == keys_I[:, None]).all()
    assert len(set(places_IK.ravel().tolist())) == places_IK.size
    rest_S, slopes_SX = starts._linear(drawn)
    # As new items are predicted, for which something stands.
    new = drawn.rows_B.copy()
    new["item_counts"], new["kind"] = 0, SampleKind.SHOWN
    new["keys"][:, drawn.layout.item_column] = np.arange(len(new), dtype=np.uint64) + np.uint64(1 << 60)
    said = learner.learn(Samples(drawn.layout, new, drawn.keys_M, drawn.texts, drawn.entries_H))
    values_SX = np.array([made.values_X for made in _made(starts, drawn)])
    logits_S = rest_S + np.einsum("sx,sx->s", slopes_SX, values_SX)
    np.testing.assert_allclose(said.predictions_B, 1 / (1 + np.exp(-logits_S)), atol=1e-5)


def test_a_new_item_starts_with_what_the_generator_makes_of_its_content(recording: Recording) -> None:
    learner, starts, samples = learned_with_meta(recording)
    one = samples.slice(len(samples) - 1, len(samples))
    row = one.rows_B.copy()
    row["kind"], row["keys"][:, one.layout.item_column] = SampleKind.NEGATIVE, 1 << 60
    new = Samples(one.layout, row, one.keys_M, one.texts, one.entries_H)
    (made,) = _made(starts, new)
    assert 0.01 < np.abs(made.values_X).max() < 0.5
    learner.fast._constants = learner.fast._constants._replace(rate_F=learner.fast._constants.rate_F * 0)
    learner.learn(new)
    at = learner.table.find(new.item_keys)
    assert at[0] > 0
    np.testing.assert_allclose(learner.table.values["v"][at[0]], made.values_X[1:], atol=1e-6)


def _made(starts: MetaStarts, samples: Samples) -> list[Any]:
    values = ids_of(occurrences_of(samples, plan_of(samples.layout)))
    return [starts.made_for(values, place) for place in starts.places(values.kinds_N)]


def test_dropoutnet_learns_each_sample_with_the_item_and_without(recording: Recording, tmp_path: Path) -> None:
    own = recording.settings.recipe
    fast = arm(DROPOUT).recipe(own, 3).fast
    assert (fast.num_masks, fast.mask_fields, fast.mask_low, fast.mask_weight) == (1, "item_id", 1, 1)
    experiment = NewItems(recording, Kept(tmp_path, NewItemsResult), SHARE, 20)
    results = list(experiment.run([RANDOM, DROPOUT, META], [WHOLE], [1], lambda what: None))
    said = [experiment.scores(result).predictions_N for result in results]
    assert all(np.nanmax(np.abs(other - said[0])) > 1e-3 for other in said[1:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--withhold", "1"], "--withhold 1.0: expected 0 or more, and less than 1"),
        (["--samples", "-1"], "--samples -1: expected 0 or more"),
        (["--arms", "best"], "best"),
        (["--seeds", "1", "1"], "twice"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_command("ml-1m", ["--new-items", "--data", "/nowhere", *arguments])
