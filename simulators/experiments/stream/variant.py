"""A model to learn a recording with, and learning it from its beginning."""

import gc
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from learner.fast.layout import FieldGroup, group_of
from learner.learned import Learned
from learner.learner import Learner
from learner.published.changed import AnyLearner
from learner.recipe import Recipe
from learner.samples.columns import Samples
from simulators.experiments.stream.figures import Said
from simulators.experiments.stream.recorded import Stream

BLOCK = 1024
"""Samples that are learned at a time, all but a deep part's micro-batches."""
Change = Callable[[Recipe], Recipe]
Seen = Callable[[Samples, Learned], None]
Given = Callable[[Learner], Callable[[Samples], Samples]]


class Variant(msgspec.Struct, frozen=True):
    """A model, as it differs from a recording's own."""

    name: str
    change: Change = lambda recipe: recipe
    recording: str = ""
    """Which recording it learns, where there are several."""
    without_vectors: tuple[FieldGroup, ...] = ()
    """Fields of these groups have first-order weights alone."""
    given: Given = lambda learner: lambda samples: samples
    """What a learner is given instead of the samples that were recorded."""

    def recipe(self, own: Recipe, seed: int) -> Recipe:
        """What it is made of.

        Args:
            own: of the recording's settings.
            seed: of the learner.
        """
        recipe = self.change(own)
        return msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, seed=seed))


def with_fast(**values: Any) -> Change:
    """Other settings of [fast]."""
    return lambda recipe: msgspec.structs.replace(recipe, fast=msgspec.structs.replace(recipe.fast, **values))


def with_learner(**values: Any) -> Change:
    """Other settings of [learner]."""
    return lambda recipe: msgspec.structs.replace(recipe, learner=msgspec.structs.replace(recipe.learner, **values))


def with_deep(micro_batch: int, **values: Any) -> Change:
    """DCN-V2 as the deep part, and other settings of [model].

    Args:
        micro_batch: samples per step of it.
        values: of [model].
    """

    def change(recipe: Recipe) -> Recipe:
        model = msgspec.structs.replace(recipe.model, **{"deep": "dcnv2", **values})
        learner = msgspec.structs.replace(recipe.learner, micro_batch=micro_batch, block=BLOCK)
        return msgspec.structs.replace(recipe, model=model, learner=learner)

    return change


def run(
    variant: Variant, recording: Stream, seed: int, seen: Seen = lambda samples, learned: None
) -> tuple[Said, float]:
    """Learn a recording from its beginning; returns what was said of each sample before, and samples/s.

    Args:
        variant: what learns it.
        recording: what is learned.
        seed: of the learner.
        seen: is called with each block, and with what it was like before it was learned from.
    """
    learner = Learner(variant.recipe(recording.settings.recipe, seed))
    learner.warm_up()
    if variant.without_vectors:
        _take_vectors(learner, variant.without_vectors)
    found = learn_all(learner, recording, seen, variant.given(learner))
    del learner
    # Its tables are some GB of addresses, of which a process has only so many.
    gc.collect()
    return found


def learn_all(
    learner: AnyLearner,
    recording: Stream,
    seen: Seen = lambda samples, learned: None,
    given: Callable[[Samples], Samples] = lambda samples: samples,
) -> tuple[Said, float]:
    """Have a learner learn a recording from its beginning, or what it is given of it; otherwise as `run`."""
    predictions, ranks, seconds = [], [], 0.0
    for recorded in recording.blocks(BLOCK):
        samples = given(recorded)
        began = time.perf_counter()
        learned = learner.learn(samples)
        seconds += time.perf_counter() - began
        predictions.append(learned.predictions_B)
        ranks.append(learned.ranks_B)
        seen(samples, learned)
    said = Said(np.concatenate(predictions), np.concatenate(ranks))
    return said, len(said.predictions_T) / seconds


def _take_vectors(learner: Learner, groups: tuple[FieldGroup, ...]) -> None:
    """Let values of the groups' fields have none, which no setting does."""
    assert learner.fast is not None
    constants = learner.fast._constants
    has_F = constants.has_factors_F.copy()
    has_F[[group_of(field) in groups for field in learner.fields]] = 0
    learner.fast._constants = constants._replace(has_factors_F=has_F)
