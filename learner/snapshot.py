"""The model as a scorer holds it, loaded from what a learner publishes. Nothing is unpickled."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np

from learner.adaf2m2.histories import history_plan
from learner.adaf2m2.taken import Occurring
from learner.content.config import Kind
from learner.fast.block import Predicted, block_of
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import Occurrences, occurrences_of, plan_of
from learner.fast.inputs.signals import signals_of
from learner.named import ArraysError, arrays_in, below
from learner.parts import counts_of, deep_alone, ids_of, look_up, served_deep_part, served_deep_table, served_fast_part
from learner.published.changed import Changed
from learner.published.encoding import encode_snapshot, stand_ins_of, tables_of, take_changed
from learner.published.messages import joined
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.tables.shared import attach, clear
from learner.tables.table import Table
from learner.targets import probabilities
from learner.tasks.fast import TaskPredictors


class Scores(msgspec.Struct, frozen=True):
    """Of B samples."""

    predictions_B: np.ndarray
    """Probabilities."""
    ranks_B: np.ndarray
    """What a user's candidates are ordered by."""
    predictions_BT: np.ndarray | None = None
    """Of every task, in the order of their declaration, where all of them are learned; and their ranks."""
    ranks_BT: np.ndarray | None = None


class Part(msgspec.Struct, frozen=True):
    """One part of a logit."""

    part: str
    component: float
    """What the part says, logit."""
    weight: float
    """What state makes it count; the logit is the sum of components times weights."""


_SLICE = 4096
"""Rows that are put into a table at a time: a fraction of a millisecond."""
_DENSE = ("fast.", "task.", "dense.", "starts.")


def _take_in(table: Table, arrays: Mapping[str, np.ndarray], pause: Callable[[], object]) -> None:
    """What a message has of one table."""
    if "evicted" in arrays:
        table.drop(arrays["evicted"])
    if "keys" not in arrays:
        return
    keys, fields = arrays["keys"], arrays["fields"]
    values = {name: arrays[f"values.{name}"] for name in table.values}
    for at in range(0, len(keys), _SLICE):
        of = slice(at, at + _SLICE)
        table.put(keys[of], fields[of], {name: column[of] for name, column in values.items()})
        pause()


class ServingModel:
    """The model as a scorer holds it: nothing of an optimiser, no new rows; unknown ids are the zero vector.

    Args:
        recipe: of the learner that publishes.

    Made within `sharing()`, one process loads it, and those forked later read it, each after `attach`.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._plan = plan_of(recipe.layout)
        self._fast = served_fast_part(recipe)
        self._table = self._fast.table if self._fast is not None else served_deep_table(recipe)
        self._deep = served_deep_part(recipe, self._table)
        self._history_plan = history_plan(recipe)
        self._others = TaskPredictors(recipe)

    @property
    def tables(self) -> list[Table]:
        """Every table, in the order in which a snapshot has them."""
        return tables_of(self._fast, self._table, self._others)

    def attach(self) -> None:
        """See what another process has loaded; to be called before it is read."""
        for table in self.tables:
            attach(table)
        for starts in stand_ins_of(self._fast, self._others):
            starts.attach()

    def clear(self, pause: Callable[[], object] = lambda: None) -> None:
        """Forget every id, also where a process died while it loaded; a full snapshot is to come."""
        for table in self.tables:
            clear(table, pause)
        for starts in stand_ins_of(self._fast, self._others):
            starts.clear()

    def load(self, chunks: Iterable[bytes], *, alone: bool = False, pause: Callable[[], object] = lambda: None) -> None:
        """Take a full or incremental snapshot in, chunk by chunk: none is held longer than it takes.

        Args:
            chunks: of the snapshot, or its messages; an incremental one goes on top of what is there.
            alone: whether it is a full one, and ids that it does not have are to go.
            pause: called between slices, so that a thread that loads lets others go on.

        Raises:
            ArraysError: they are no snapshot, or it is cut off; what is loaded then is not whole.
        """
        if alone:
            self.clear(pause)
        dense: dict[str, np.ndarray] = {}
        for message in joined(chunks):
            arrays = arrays_in(message)
            for n, table in enumerate(self.tables):
                _take_in(table, below(f"{n}.", arrays), pause)
            dense |= {name: value for name, value in arrays.items() if name.startswith(_DENSE)}
        if not dense:
            raise ArraysError("a snapshot has no dense part; it was cut, or is something else")
        self._restore(dense)

    def _restore(self, dense: Mapping[str, np.ndarray]) -> None:
        if self._fast is not None:
            self._fast.dense.restore(below("fast.", dense))
        for n, starts in enumerate(stand_ins_of(self._fast, self._others)):
            starts.take(below(f"starts.{n}.", dense))
        for n, part in enumerate(self._others.parts):
            part.dense.restore(below(f"task.{n}.", dense))
        if self._deep is not None:
            self._deep.load(dense)

    def predict(self, samples: Samples) -> Scores:
        """y_adapt per sample; labels are ignored."""
        main, deep_BT, occurrences = self._predict(samples)
        how = self._recipe.learner.delayed_feedback
        predictions_B = probabilities(main.logit_B, how).astype(np.float32)
        if not self._recipe.learns_all:
            return Scores(predictions_B, main.rank_B)
        said = self._others.predict(samples, occurrences, deep_BT)
        said.insert(self._recipe.main, main)
        predictions_BT = np.stack([probabilities(one.logit_B, how).astype(np.float32) for one in said], axis=1)
        return Scores(predictions_B, main.rank_B, predictions_BT, np.stack([one.rank_B for one in said], axis=1))

    def explain(self, samples: Samples) -> list[Part]:
        """The parts of the first sample's logit."""
        predicted, _, _ = self._predict(samples)
        if self._fast is None:
            return [Part("deep", float(predicted.logit_B[0]), 1.0)]
        columns = predicted.components_BK[0].tolist(), predicted.gates_BK[0].tolist()
        parts = [Part(*said) for said in zip(self._fast.components, *columns, strict=True)]
        return [*parts, Part("state", float(predicted.added_B[0]), 1.0)]

    def stands_for(self, samples: Samples, kind: Kind = "item") -> tuple[list[str], list[float]] | None:
        """Ids of those that the first sample's item, or user, is served by, as it has no row, and how like it they are;
        None if it is served by what it has learned itself."""
        return None if self._fast is None else self._fast.stands_for(ids_of(occurrences_of(samples, self._plan)), kind)

    def _predict(self, samples: Samples) -> tuple[Predicted, np.ndarray | None, Occurrences]:
        """Of the main task; the deep part's logits of each, if it has them; occurrences of the samples' values."""
        occurrences = occurrences_of(samples, self._plan)
        rows_N, deep_B, deep_BT = self._table.find(occurrences.keys_N), None, None
        if self._deep is not None:
            norms_B2 = np.stack([samples.rows_B["user_norm"], samples.rows_B["item_norm"]], axis=1)
            read = None if self._history_plan is None else self._history_plan.rows(samples, self._table)
            learns_B = np.zeros(len(samples), np.bool_)
            of_block = Occurring(occurrences, rows_N, norms_B2, counts_of(samples), learns_B, read)
            deep_B, deep_BT = self._deep.predict(of_block)
        if self._fast is None:
            assert deep_B is not None
            return deep_alone(deep_B), deep_BT, occurrences
        fast, nothing_B = self._recipe.fast, np.zeros(len(samples), np.float32)
        found = look_up(self._recipe, self._fast, samples, ids_of(occurrences), learning=False)
        block = block_of(
            found.values,
            found.crosses,
            found.made_MX,
            found.histories,
            nothing_B,
            signals_of(samples, fast.gate_signals, self._recipe.positive),
            levels_B2=levels_of(samples, fast.user_levels, fast.item_levels),
            **({} if deep_B is None else {"deep_B": deep_B}),
        )
        return self._fast.predict(block), deep_BT, occurrences


__all__ = ["Changed", "Part", "Scores", "ServingModel", "encode_snapshot", "take_changed"]
