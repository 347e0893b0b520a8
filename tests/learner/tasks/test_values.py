"""A value as what is learned: weighted logistic regression, whose odds are the expected value."""

import msgspec
import numpy as np
import pytest

from learner.config import HeadSettings, ModelSettings
from learner.learner import Learner
from learner.samples.former import Sample
from learner.samples.kind import SampleKind
from learner.targets import expected_values, probabilities, targets_of_task
from tests.learner.tasks.streams import CLICK, TASKS, WATCH, later, make_recipe, make_stream, to_samples

UNIT = 8.0
VALUED = (*TASKS[:2], msgspec.structs.replace(TASKS[WATCH], positive=(2,), value_unit=UNIT))


def make_watches(count: int, seed: int = 0) -> tuple[list[Sample], dict[str, float]]:
    """Impressions of which some are watched, for a time that depends on the item; and what each was watched for."""
    rng = np.random.default_rng(seed)
    out: list[Sample] = []
    watched = {}
    for base in make_stream(count, seed):
        if base.kind not in (SampleKind.NEGATIVE, SampleKind.POSITIVE):
            continue
        item = int(base.core.item_id[1:])
        is_watched = rng.random() < 0.5
        seconds = float(rng.exponential(2.0 + item % 8 * 3)) if is_watched else 0.0
        watched[base.core.imp_id] = seconds
        values = [None, None, seconds]
        turned = is_watched and rng.random() < 0.3
        out.append(base)
        if turned or not is_watched:
            out.append(later(base, WATCH, 0, -1))
        if is_watched:
            out.append(msgspec.structs.replace(later(base, WATCH, 1, 500 if turned else 100), values=values))
    return out, watched


@pytest.mark.parametrize("model", ["fast", "heads"])
def test_the_odds_are_the_expected_value(model: str) -> None:
    heads = HeadSettings("shared_bottom", expert_width=8, tower=(8,))
    models = {"fast": ModelSettings(), "heads": ModelSettings(deep="dcnv2", dim=4, hidden=(8,), heads=heads)}
    stream, watched = make_watches(4000)
    learner = Learner(make_recipe(models[model], VALUED))
    samples = to_samples(stream)
    by_task = learner.learn(samples).by_task
    assert by_task is not None
    base = np.flatnonzero(samples.rows_B["kind"] <= SampleKind.POSITIVE)[2000:]
    said = expected_values(by_task.predictions_BT[base, WATCH], VALUED[WATCH])
    truth = np.array([watched[samples.imp_ids[n]] for n in base])
    assert said.sum() / truth.sum() == pytest.approx(1.0, abs=0.08)
    # By item, where it differs by a factor of ten.
    kinds = np.array([int(samples.item_ids[n][1:]) % 8 for n in base])
    for kind in (4, 5, 6, 7):
        assert said[kinds == kind].mean() == pytest.approx(truth[kinds == kind].mean(), rel=0.25)
    assert said[kinds == 7].mean() > 6 * said[kinds == 0].mean()
    # The label of the task is still one, and the main task is untouched by it.
    assert set(np.unique(by_task.labels_BT[:, WATCH])) == {0.0, 1.0}
    assert not np.array_equal(by_task.predictions_BT[:, CLICK], by_task.predictions_BT[:, WATCH])


def test_gradients_are_those_of_the_weighted_loss() -> None:
    """At any p: w (1 - p) - p of a positive, -p of a negative, w (1 - p) of a positive whose negative was told."""
    base = next(s for s in make_stream(5) if s.kind <= SampleKind.POSITIVE)
    known = msgspec.structs.replace(base, known=7, labels=4, values=[None, None, 2 * UNIT])
    without = msgspec.structs.replace(known, values=None)
    rows = [
        known,
        later(base, WATCH, 0, -1),
        msgspec.structs.replace(later(base, WATCH, 1, 100), values=[None, None, 3 * UNIT]),
        msgspec.structs.replace(later(base, WATCH, 1, 500), values=[None, None, 3 * UNIT]),
        without,
        base,
    ]
    told = targets_of_task(to_samples(rows), WATCH, VALUED[WATCH], "undo")
    assert told.learn_B.tolist() == [True, True, True, True, False, False]
    assert told.weight_B is not None
    assert not told.turn_B.any()
    for p in (0.1, 0.5, 0.9):
        errors = (told.weight_B * (told.labels_B - p))[:4]
        assert errors.tolist() == pytest.approx([2 * (1 - p) - p, -p, 3 * (1 - p) - p, 3 * (1 - p)], abs=1e-6)


def test_expected_values_are_the_odds_in_units() -> None:
    logits = np.array([-1.0, 0.0, 2.0])
    said = expected_values(probabilities(logits, "none"), VALUED[WATCH])
    np.testing.assert_allclose(said, UNIT * np.exp(logits))
    np.testing.assert_array_equal(expected_values(logits, TASKS[WATCH]), logits)


def test_losses_of_labels_are_refused_for_values() -> None:
    with pytest.raises(ValueError, match=r"'fnw', a loss of labels, and the values of \['watch'\] are learned"):
        make_recipe(tasks=VALUED, delayed_feedback="fnw")
