"""What every task is like in a block, before it is learned from."""

from collections.abc import Sequence

import numpy as np

from learner.learned import ByTask
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.targets import probabilities, turned_of_task
from learner.tasks.fast import TaskSaid, in_order


def by_task(recipe: Recipe, samples: Samples, main: TaskSaid, others: Sequence[TaskSaid]) -> ByTask | None:
    """Of every task, where all of them are learned.

    Args:
        recipe: of the model.
        samples: B of them.
        main: what was said for the main task.
        others: for the others, in their order.
    """
    if not recipe.learns_all:
        return None
    how = recipe.learner.delayed_feedback
    said = in_order(recipe.main, main, others)
    known = [one.targets.learn_B for one in said]
    known[recipe.main] = samples.is_labelled
    turned = [turned_of_task(samples, n, task) for n, task in enumerate(recipe.tasks)]
    columns = (
        [probabilities(one.predicted.logit_B, how).astype(np.float32) for one in said],
        [one.predicted.rank_B for one in said],
        [(one.targets.labels_B > 0).astype(np.float32) for one in said],
        known,
        turned,
    )
    return ByTask(*(np.stack(column, axis=1) for column in columns))
