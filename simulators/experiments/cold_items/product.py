"""Cold items and the product's learner: the samples of all parts, one after the other, each learned once."""

from collections.abc import Callable, Iterator

import numpy as np

from learner.learner import Learner
from learner.recipe import Recipe
from simulators.experiments.cold_items.columns import Columns
from simulators.experiments.cold_items.split import PHASES, ColdSplit
from simulators.experiments.ratings import Ratings


def predicted(
    recipe: Recipe, ratings: Ratings, split: ColdSplit, told: Callable[[str], None] = lambda phase: None
) -> Iterator[np.ndarray]:
    """Probabilities of the test part in each phase.

    Args:
        recipe: of the learner.
        ratings: the log, with the recipe's fields.
        split: its parts; the base, and each warm-up step, is learned in the order of time.
        told: is told what is learned.
    """
    learner = Learner(recipe)
    learner.warm_up()
    columns = Columns(ratings, recipe.layout)
    for phase, part_N in zip(PHASES, (split.base_N, *split.steps), strict=True):
        told(phase)
        for samples in columns.blocks(part_N, learned=True):
            learner.learn(samples)
        found = [learner.learn(samples).predictions_B for samples in columns.blocks(split.test_N, learned=False)]
        yield np.concatenate(found)
