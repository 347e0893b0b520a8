"""The fast parts of the tasks besides the main one: models of their own on the same keys.

Each task has its own rows of weights and factors, biases, gate and levels, and state signals by its own positives, so
that it learns exactly what a learner would whose main task it was; what samples have is worked out once for all. A row
costs each task as much as it costs the main one (`Table.bytes_per_id`), from the first sample on that brings its label.

Legend: B samples, T tasks.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from learner.fast.block import Block, Predicted, block_of
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import Occurrences
from learner.fast.inputs.signals import signals_of
from learner.fast.model import FastPart
from learner.fast.predictor import FastPredictor
from learner.named import below
from learner.parts import deep_alone, ids_of, look_up, served_task_part, task_part
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.tables.table import Table
from learner.targets import Targets, targets_of_task


class TaskSaid(NamedTuple):
    """What was said of B samples for one task, before learning."""

    targets: Targets
    predicted: Predicted


def in_order(main: int, of_main: TaskSaid, of_others: Sequence[TaskSaid]) -> list[TaskSaid]:
    """Of every task, in the order of their declaration."""
    found = list(of_others)
    found.insert(main, of_main)
    return found


class TaskPredictors:
    """Predicts the tasks besides the main one; where only the main one is learned, there are none.

    Args:
        recipe: of the model.
        make: a new part of a task.
    """

    parts: Sequence[FastPredictor]

    def __init__(self, recipe: Recipe, make: Callable[[Recipe], FastPredictor] = served_task_part) -> None:
        self._recipe = recipe
        others = [n for n, task in enumerate(recipe.tasks) if not task.is_main] if recipe.learns_all else []
        self.numbers = tuple(others)
        """Of the tasks."""
        self.parts = tuple(make(recipe) for _ in others) if recipe.model.fast else ()

    @property
    def tables(self) -> list[Table]:
        """Of all parts: each one's values, then its crosses."""
        return [table for part in self.parts for table in (part.table, part.cross_table)]

    def predict(self, samples: Samples, occurrences: Occurrences, deep_BT: np.ndarray | None) -> list[Predicted]:
        """What is said of each task; nothing changes.

        Args:
            samples: B of them.
            occurrences: of their values.
            deep_BT: logits of the deep part, if it has one per task.
        """
        if not self.parts:
            return self._deep_alone(deep_BT)
        blocks = self._blocks(samples, occurrences, None, deep_BT)
        return [part.predict(block) for part, block in zip(self.parts, blocks, strict=True)]

    def _deep_alone(self, deep_BT: np.ndarray | None) -> list[Predicted]:
        return [] if deep_BT is None else [deep_alone(deep_BT[:, n]) for n in self.numbers]

    def _blocks(
        self, samples: Samples, occurrences: Occurrences, targets: list[Targets] | None, deep_BT: np.ndarray | None
    ) -> Iterator[Block]:
        """The samples as each part takes them."""
        fast, ids = self._recipe.fast, ids_of(occurrences)
        crosses = self.parts[0].crosses_of(ids)
        levels_B2 = levels_of(samples, fast.user_levels, fast.item_levels)
        for at, (n, part) in enumerate(zip(self.numbers, self.parts, strict=True)):
            told = targets[at] if targets is not None else None
            learn_B = np.zeros(len(samples), np.bool_) if told is None else told.learn_B
            others = {} if deep_BT is None else {"deep_B": deep_BT[:, n]}
            if told is not None:
                others |= {"turn_B": told.turn_B, "shift_B": told.shift_B}
                others |= {} if told.weight_B is None else {"weight_B": told.weight_B}
            if told is not None and isinstance(part, FastPart):
                others["covariance_rows_B"] = part.covariances_of(samples.user_keys, samples.rows_B["ts"], learn_B)
            learning = learn_B if learn_B.any() else False
            of = look_up(self._recipe, part, samples, ids, learning, crosses)
            yield block_of(
                of.values,
                of.crosses,
                of.made_MX,
                of.histories,
                np.zeros(len(samples), np.float32) if told is None else told.labels_B,
                signals_of(samples, fast.gate_signals, self._recipe.tasks[n].positive),
                learn_B=learn_B,
                levels_B2=levels_B2,
                **others,
            )


class TaskParts(TaskPredictors):
    """Learns them, too.

    Args:
        recipe: of the model.
    """

    parts: tuple[FastPart, ...]

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, task_part)

    @property
    def _named(self) -> dict[str, FastPart]:
        """By the name of the task."""
        return {self._recipe.tasks[n].name: part for n, part in zip(self.numbers, self.parts, strict=False)}

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number."""
        return all(part.is_finite for part in self.parts)

    def targets(self, samples: Samples) -> list[Targets]:
        """What samples say of each task."""
        how = self._recipe.learner.delayed_feedback
        return [targets_of_task(samples, n, self._recipe.tasks[n], how) for n in self.numbers]

    def learn(
        self,
        samples: Samples,
        occurrences: Occurrences,
        targets: list[Targets],
        deep_BT: np.ndarray | None,
    ) -> list[TaskSaid]:
        """Predict each task, and learn it from the samples that bring its label.

        Args:
            samples: B of them.
            occurrences: of their values.
            targets: of each task of `numbers`.
            deep_BT: logits of the deep part, if it has one per task.
        """
        if self.parts:
            blocks = self._blocks(samples, occurrences, targets, deep_BT)
            predicted = [part.learn(block) for part, block in zip(self.parts, blocks, strict=True)]
        else:
            predicted = self._deep_alone(deep_BT)
        return [TaskSaid(*said) for said in zip(targets, predicted, strict=True)]

    def state(self, of_table: Callable[[Table], dict[str, np.ndarray]] = Table.state) -> dict[str, np.ndarray]:
        """Copies of everything that the future depends on, by task; `of_table`: what is taken of each table."""
        return {f"{task}.{name}": a for task, part in self._named.items() for name, a in part.state(of_table).items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state()`.

        Raises:
            ValueError: it is of other tasks.
        """
        here = list(self._named)
        for name in here:
            if not below(f"{name}.", state):
                raise ValueError(f"the saved model has not learned task {name!r}: learner.tasks or [[tasks]] changed")
        if any(not name.startswith(tuple(f"{task}." for task in here)) for name in state):
            raise ValueError(f"the saved model has learned more tasks than {here}: learner.tasks or [[tasks]] changed")
        for name, part in self._named.items():
            part.restore(below(f"{name}.", state))
