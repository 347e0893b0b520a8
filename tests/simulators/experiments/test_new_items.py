"""What new items start with, on a stream with items withheld until its middle."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.logs import synthetic_log

from learner.samples.columns import Samples, concatenate
from simulators.commands.options import UsageError
from simulators.commands.starts.new_items import run as run_command
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.new_items.arms import CATEGORY, CONTENT, IDS, RANDOM, WHOLE, arm
from simulators.experiments.new_items.judge import LATE, LIMITS, LOG_LOSS, SERVED_AUC, WITHHELD, NewItemsJudge
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
