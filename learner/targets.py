"""What samples say, and how much each counts: the same for every part of the model.

Where only a share r of the negatives is learned from, the odds of a positive are 1/r times as great among the samples
as in the stream. The loss is taken on the logit less ln r, so the logit itself stays that of the stream (Monolith,
section 2).

A positive that comes after its negative was learned is a correction. What becomes of the negative then:

    undo   it is taken back, as far as it was believed (`learner/fast/learning/belief.py`). Both samples together teach
           one positive, so probabilities stay calibrated
    none   a negative and a positive are learned
    fnw    positives weigh 1 + p, negatives (1 - p)(1 + p), p being the model's own prediction
    fnc    a negative and a positive; that teaches b = p / (1 + p), so p = b / (1 - b)

The latter two are those of Ktena et al., "Addressing delayed feedback for continuous training" (RecSys 2019), for
streams in which every impression is a negative first.

A task may be of a value, as of seconds watched: weighted logistic regression, in which a positive weighs its value
(Covington et al., "Deep neural networks for YouTube recommendations", RecSys 2016, section 4.2). There the odds are
sum(value) / (negatives), which comes near the mean value where positives are few. Here each positive counts as a
negative, too, so that the odds are sum(value) / (impressions): the expected value itself.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from learner.adaf2m2.taken import Told
from learner.fast.learning.belief import TURNED, turns_of
from learner.recipe import TaskRecipe
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind

DelayedFeedback = Literal["undo", "none", "fnw", "fnc"]
_CALIBRATED_MAX = 0.999
_SMALLEST = 1e-7


class Targets(NamedTuple):
    """Of B samples."""

    labels_B: np.ndarray
    """float32, 0 or 1; of a value, its share of a positive and a negative."""
    learn_B: np.ndarray
    """Whether it is learned from."""
    turn_B: np.ndarray
    """uint8: whether it is a negative that may turn, or has."""
    shift_B: np.ndarray
    """float32, added to the logit for the loss only."""
    weight_B: np.ndarray | None = None
    """float32, of the loss; 1 if there is none."""


def targets_of(samples: Samples, delayed_feedback: DelayedFeedback, *, settles: bool) -> Targets:
    """Targets of a block of samples.

    Args:
        samples: the samples.
        delayed_feedback: what becomes of negatives that turn.
        settles: whether negatives may turn, and are settled if they do not.
    """
    rows = samples.rows_B
    turn_B = turns_of(rows["kind"], settles=settles)
    if delayed_feedback != "undo":
        turn_B[:] = 0
    return Targets(
        rows["label"].astype(np.float32),
        samples.is_learned & ((turn_B > 0) | samples.is_labelled),
        turn_B,
        -np.log(rows["negative_rate"]).astype(np.float32),
    )


def targets_of_task(samples: Samples, number: int, task: TaskRecipe, delayed_feedback: DelayedFeedback) -> Targets:
    """Targets of a task that is not the main one.

    Its label is in the base sample if it was known by then, or comes later in a sample that names the task. A positive
    that comes after its negative was told turns that one; the join decides that by delays alone, and so it is here.

    Args:
        samples: the samples.
        number: the task's, as of its bit.
        task: the task.
        delayed_feedback: what becomes of negatives that turn.
    """
    if task.value_unit:
        return _values_of_task(samples, number, task)
    labels_B, learn_B = _labels_of_task(samples, number)
    turn_B = np.zeros(len(samples), np.uint8)
    if delayed_feedback == "undo":
        turn_B[turned_of_task(samples, number, task)] = TURNED
    return Targets(labels_B, learn_B, turn_B, np.zeros(len(samples), np.float32))


def _labels_of_task(samples: Samples, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and whether each is one."""
    rows, bit = samples.rows_B, np.uint8(1 << number)
    is_base_B, is_later_B = rows["kind"] <= SampleKind.POSITIVE, _is_later(samples, number)
    labels_B = np.where(is_later_B, rows["label"], (rows["labels"] & bit) > 0).astype(np.float32)
    return labels_B, is_later_B | (is_base_B & ((rows["known"] & bit) > 0))


def _values_of_task(samples: Samples, number: int, task: TaskRecipe) -> Targets:
    """Values as weights, in one step each: w (1 - p) - p for a positive of w units, -p for a negative.

    A positive that turns a negative brings the w (1 - p) that was missing. One without a value teaches nothing.
    """
    labels_B, learn_B = _labels_of_task(samples, number)
    nothing_B = np.zeros(len(samples), np.float32)
    values_B = samples.rows_B["values"][:, task.positive[0]] / task.value_unit
    is_positive_B, is_told_B = labels_B > 0, np.isfinite(values_B)
    learn_B = learn_B & (~is_positive_B | is_told_B)
    value_B = np.where(is_positive_B & is_told_B, np.maximum(values_B, 0.0), 0.0)
    negatives_B = np.where(turned_of_task(samples, number, task), 0.0, 1.0)
    weight_B = value_B + negatives_B
    shares_B = np.divide(value_B, weight_B, out=np.zeros(len(samples)), where=weight_B > 0)
    return Targets(
        shares_B.astype(np.float32), learn_B, np.zeros(len(samples), np.uint8), nothing_B, weight_B.astype(np.float32)
    )


def deep_target(
    targets: Targets, inner_B: np.ndarray, rest_B: np.ndarray, learn_B: np.ndarray, delayed_feedback: DelayedFeedback
) -> Told:
    """What is left to learn for the deep part, of those samples that it learns.

    It believes every negative at once, and takes it back if it turns: what lies between is said by the fast part.

    Args:
        targets: of the samples.
        inner_B: the fast part's inner logits, or the deep part's own.
        rest_B: what the fast part says besides: the loss is on the sum.
        learn_B: booleans, which it learns.
        delayed_feedback: what becomes of negatives that turn.
    """
    labels_L = targets.labels_B[learn_B]
    weights_L = np.ones_like(labels_L) if targets.weight_B is None else targets.weight_B[learn_B]
    if delayed_feedback == "fnw":
        p_L = probabilities(inner_B[learn_B], "none")
        weights_L = (1.0 + p_L) * np.where(labels_L > 0, 1.0, 1.0 - p_L)
    undo_L, shift_L = targets.turn_B[learn_B] == TURNED, targets.shift_B[learn_B] + rest_B[learn_B]
    return Told(*(column_L.astype(np.float32) for column_L in (labels_L, weights_L, undo_L, shift_L)))


def expected_values(probabilities_B: np.ndarray, task: TaskRecipe) -> np.ndarray:
    """What a task's model expects: the odds, in units, of one whose value is learned; else the probability itself.

    >>> expected_values(np.array([0.75]), TaskRecipe("watch", (0,), value_unit=10.0)).tolist()
    [30.0]
    """
    if not task.value_unit:
        return probabilities_B
    odds_B: np.ndarray = task.value_unit * probabilities_B / np.maximum(1.0 - probabilities_B, _SMALLEST)
    return odds_B


def expected_by_task(probabilities_BT: np.ndarray, tasks: Sequence[TaskRecipe]) -> dict[str, np.ndarray]:
    """The same of every task, by its name."""
    return {task.name: expected_values(probabilities_BT[:, n], task) for n, task in enumerate(tasks)}


def turned_of_task(samples: Samples, number: int, task: TaskRecipe) -> np.ndarray:
    """Which samples turn a negative of the task that was told before, booleans; arguments as of `targets_of_task`."""
    rows = samples.rows_B
    if task.is_main:
        turned_B: np.ndarray = rows["kind"] == SampleKind.CORRECTION
    else:
        is_after_B = np.logical_or(task.told_at_once, rows["delay_ms"] > task.window_ms)
        turned_B = _is_later(samples, number) & (rows["label"] > 0) & is_after_B
    return turned_B


def _is_later(samples: Samples, number: int) -> np.ndarray:
    rows = samples.rows_B
    later_B: np.ndarray = (rows["kind"] == SampleKind.TASK_CORRECTION) & (rows["task"] == number)
    return later_B


def probabilities(logits_B: np.ndarray, delayed_feedback: DelayedFeedback) -> np.ndarray:
    """Logits -> probability of a positive; with `fnc`, calibrated from the biased rate.

    >>> probabilities(np.array([-1.0986123]), "fnc").round(4).tolist()   # b = 1/4
    [0.3333]
    """
    if delayed_feedback == "fnc":
        # b / (1 - b) = exp(logit); a biased rate of one half or more would make a probability of one or more.
        calibrated_B: np.ndarray = np.minimum(np.exp(np.minimum(logits_B, 0.0)), _CALIBRATED_MAX)
        return calibrated_B
    # Of a diverged model NaN, without a warning for large logits.
    probabilities_B: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(logits_B, -60.0, 60.0)))
    return probabilities_B
