"""The incremental learner: predict, then learn. The fast part sample by sample, the deep part in micro-batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from learner.adaf2m2.histories import history_plan
from learner.adaf2m2.taken import Occurring, Told
from learner.fast.block import Predicted, block_of
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import Occurrences, occurrences_of, plan_of
from learner.fast.inputs.signals import signals_of
from learner.fast.learning.belief import SETTLED
from learner.learned import Learned, joined
from learner.named import below
from learner.parts import (
    ages_of,
    content_made,
    counts_of,
    deep_alone,
    deep_part,
    deep_table,
    fast_part,
    ids_of,
    known,
    look_up,
    unseen,
    warm_up,
    weights_of,
)
from learner.recipe import Recipe
from learner.samples.columns import Samples, blocks
from learner.samples.kind import SampleKind
from learner.tables.ids import rows_of
from learner.tables.table import Table
from learner.targets import Targets, deep_target, probabilities, targets_of
from learner.tasks.by_task import by_task
from learner.tasks.fast import TaskParts, TaskSaid, in_order

if TYPE_CHECKING:
    import torch

    from learner.adaf2m2.deep import Said

FORMAT = 2
"""Of a learner's state; 1 was that of the learner that knew ids by their strings."""
_DAY_MS = 86_400_000
_AGED_ONE_IN = 16
"""One block of so many says how old its features are, which is dear to look up."""
_SCANNED_ONE_IN = 8
"""Of the rows, one of so many is looked at for eviction at a time."""


class Learner:
    """The model, its tables and its optimisers.

    Args:
        recipe: what it is made of.
        device: where a deep part computes; None: as `learner.device` says.

    A run with the same seed and the same samples gives the same predictions; with a deep part, in the same blocks.
    """

    def __init__(self, recipe: Recipe, device: "torch.device | None" = None) -> None:
        self.recipe = recipe
        self.layout = recipe.layout
        self.settings = recipe.learner
        self.fields = recipe.fields
        self._plan = plan_of(self.layout)
        self._ids = recipe.field("user_id"), recipe.field("item_id")
        self.fast = fast_part(recipe)
        self.table = self.fast.table if self.fast is not None else deep_table(recipe)
        self.deep = deep_part(recipe, self.table, device)
        self._history_plan = history_plan(recipe)
        self.others = TaskParts(recipe)
        self.num_samples = 0
        self.max_ts = 0
        self._num_blocks = 0
        self._learned_ts = 0

    @property
    def micro_batch(self) -> int:
        """Samples that are worth waiting a moment for."""
        return self.settings.micro_batch if self.deep is not None else 1

    def warm_up(self) -> float:
        """Compile, or load from the cache, whatever is compiled; returns the seconds that it took."""
        return warm_up(self.recipe)

    def learn(self, samples: Samples) -> Learned:
        """Predict the samples, and train once on those that bring a label; returns what was predicted before."""
        # Blocks of impressions that have just passed are not asked.
        has_labels = bool(samples.is_labelled.any())
        with_ages, self._num_blocks = has_labels and self._num_blocks % _AGED_ONE_IN == 0, self._num_blocks + has_labels
        # Looks lie within micro-batches, which are cut as if there were none.
        batches = [samples] if self.deep is None else blocks(samples, self.settings.micro_batch)
        parts = (part for batch in batches for part in self._until_looks(batch))
        learned = [self._learn(part, with_ages=with_ages) for part in parts]
        return learned[0] if len(learned) == 1 else joined(learned)

    def _until_looks(self, samples: Samples) -> Iterator[Samples]:
        """The samples in parts; behind each but perhaps the last the fast parts look at what new ones may start with.

        After so many samples learned, wherever the blocks end: what is learned must not depend on that.
        """
        if self.fast is None or not self.fast.starts:
            yield samples
            return
        begin, first = 0, self.num_samples
        targets = targets_of(samples, self.settings.delayed_feedback, settles=self.recipe.settles)
        learned = np.flatnonzero(targets.learn_B)
        while (at := min(starts.next_look for starts in self.fast.starts) - first) <= len(learned):
            end = int(learned[at - 1]) + 1
            yield samples.slice(begin, end)
            due = [starts.kind for starts in self.fast.starts if starts.next_look <= self.num_samples]
            for part in (self.fast, *self.others.parts):
                part.look(self.num_samples, due)
            begin = end
        if begin < len(samples) or not len(samples):
            yield samples.slice(begin, len(samples))

    def _learn(self, samples: Samples, *, with_ages: bool) -> Learned:
        rows = samples.rows_B
        occurrences = occurrences_of(samples, self._plan)
        targets = targets_of(samples, self.settings.delayed_feedback, settles=self.recipe.settles)
        is_learned_B = targets.learn_B
        ages_N = ages_of(self.table, occurrences, rows["ts"]) if with_ages else None
        found = None
        if self.fast is not None:
            found = look_up(self.recipe, self.fast, samples, ids_of(occurrences), is_learned_B)
            rows_N = found.rows
        else:
            rows_N = rows_of(self.table, ids_of(occurrences), rows["ts"], is_learned_B)
        id_rows_B2 = self._id_rows(occurrences, rows_N)
        norms_B2, is_new_B2 = known(self.fast, self.deep, id_rows_B2)
        unseen_B2 = unseen(is_new_B2, id_rows_B2, is_learned_B)
        of_others = self.others.targets(samples)
        deep, deep_learns_B = None, is_learned_B & (targets.turn_B != SETTLED)
        if self.recipe.has_heads:
            deep_learns_B = np.logical_or.reduce([deep_learns_B, *(told.learn_B for told in of_others)])
        if self.deep is not None:
            read = None if self._history_plan is None else self._history_plan.rows(samples, self.table)
            deep = self.deep.predict(Occurring(occurrences, rows_N, norms_B2, counts_of(samples), deep_learns_B, read))
        if self.fast is not None and found is not None:
            others = {} if deep is None else {"deep_B": deep.logits_B}
            imp_keys_B = rows["imp_key"]
            block = block_of(
                found.values,
                found.crosses,
                found.made_MX,
                found.histories,
                targets.labels_B,
                signals_of(samples, self.recipe.fast.gate_signals, self.recipe.positive),
                shift_B=targets.shift_B,
                turn_B=targets.turn_B,
                belief_rows_B=self.fast.believe(imp_keys_B, rows["ts"], targets.turn_B),
                covariance_rows_B=self.fast.covariances_of(samples.user_keys, rows["ts"], is_learned_B),
                learn_B=is_learned_B,
                levels_B2=levels_of(samples, self.recipe.fast.user_levels, self.recipe.fast.item_levels),
                **others,
            )
            predicted = self.fast.learn(block)
            self.fast.forget(imp_keys_B, targets.turn_B)
        else:
            assert deep is not None
            predicted = deep_alone(deep.logits_B)
        said = self.others.learn(samples, occurrences, of_others, None if deep is None else deep.logits_BT)
        if self.deep is not None and deep is not None:
            self._teach_deep(deep, [TaskSaid(targets, predicted), *said], deep_learns_B)
        self._note(rows["ts"][is_learned_B])
        return Learned(
            probabilities(predicted.logit_B, self.settings.delayed_feedback).astype(np.float32),
            predicted.rank_B,
            rows["label"],
            rows["negative_rate"],
            rows["kind"] == SampleKind.CORRECTION,
            norms_B2,
            unseen_B2,
            weights_of(predicted, deep, has_gate=self.fast is not None and self.recipe.fast.gate),
            occurrences.sizes_BF,
            content_made(self.fast, found, unseen_B2[:, 1]),
            ages_N,
            by_task(self.recipe, samples, TaskSaid(targets, predicted), said),
        )

    def _teach_deep(self, deep: "Said", said: Sequence[TaskSaid], learn_B: np.ndarray) -> None:
        """The deep part learns what the fast parts leave over: the main task's, or, with heads, every task's."""
        assert self.deep is not None
        if deep.logits_BT is None:
            main = said[0]
            self.deep.learn(deep, self._deep_target(main.targets, main.predicted, deep.logits_B, learn_B))
            return
        tasks = []
        for n, one in enumerate(in_order(self.recipe.main, said[0], said[1:])):
            told = one.targets
            counts_B = told.learn_B & (told.turn_B != SETTLED)
            target = self._deep_target(told, one.predicted, deep.logits_BT[:, n], learn_B)
            counts_L = counts_B[learn_B].astype(np.float32)
            tasks.append(target._replace(weights_L=target.weights_L * counts_L, undo_L=target.undo_L * counts_L))
        self.deep.learn_tasks(deep, tasks)

    def _deep_target(self, targets: Targets, predicted: Predicted, deep_B: np.ndarray, learn_B: np.ndarray) -> Told:
        inner_B = predicted.inner_B
        rest_B = inner_B - deep_B if self.fast is not None else np.zeros_like(inner_B)
        return deep_target(targets, inner_B, rest_B, learn_B, self.settings.delayed_feedback)

    def _note(self, ts_N: np.ndarray) -> None:
        if len(ts_N):
            self.num_samples += len(ts_N)
            self.max_ts = max(self.max_ts, int(ts_N.max()))
            self._learned_ts = int(np.partition(ts_N, len(ts_N) // 2)[len(ts_N) // 2])

    def _id_rows(self, occurrences: Occurrences, rows_N: np.ndarray) -> np.ndarray:
        """Rows of user and item, shape (B, 2); every sample has both ids."""
        starts_BF = np.cumsum(occurrences.sizes_BF).reshape(occurrences.sizes_BF.shape) - occurrences.sizes_BF
        rows_B2: np.ndarray = rows_N[starts_BF[:, self._ids]]
        return rows_B2

    def norms_of(self, keys_N: np.ndarray) -> np.ndarray:
        """L2 norms of the embeddings of ids, by their keys; 0 of one that has no row."""
        return known(self.fast, self.deep, self.table.find(keys_N)).norms_N

    @property
    def num_rows(self) -> int:
        """Ids that have a row."""
        return self.table.num_rows

    @property
    def learned_ts(self) -> int:
        """Event time of what was learned last, ms: the median of the last block; 0 before the first."""
        return self._learned_ts

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number; a snapshot that is not finite is never published."""
        return all(part.is_finite for part in (self.fast, self.deep, self.others) if part is not None)

    def evict_stale(self) -> int:
        """Free rows beyond their time to live, of a slice of all rows; returns how many."""
        return sum(len(keys_N) for _, keys_N in self.evicted_now())

    def evicted_now(self) -> list[tuple[Table, np.ndarray]]:
        """As `evict_stale`; returns every table, always in the same order, with the keys that it has freed."""
        days = self.settings.embedding_ttl_days
        if not days:
            return []
        before, parts = self.max_ts - days * _DAY_MS, (self.fast, *self.others.parts)
        tables = [table for part in parts if part is not None for table in part.tables] or [self.table]
        return [(table, table.evict(before, table.end // _SCANNED_ONE_IN + 4096)) for table in tables]

    # Checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that training depends on: tables, dense parts, optimisers, generators, counters."""
        return self._state(Table.state)

    def take_changes(self, *, whole: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has changed since the last call, or since `restore`, for the next checkpoint: of the tables the rows
        that were touched, of everything else all.

        Args:
            whole: take the tables whole: `state()`, with which a row of checkpoints begins.
        """
        return self._state(lambda table: table.take_changes(whole=whole))

    def _state(
        self, of_table: Callable[[Table], dict[str, np.ndarray]]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        taken = self.fast.state(of_table) if self.fast is not None else of_table(self.table)
        arrays = {f"fast.{name}": value for name, value in taken.items()}
        if self.deep is not None:
            arrays |= {f"deep.{name}": value for name, value in self.deep.state().items()}
        arrays |= {f"tasks.{name}": value for name, value in self.others.state(of_table).items()}
        return arrays, {"format": FORMAT, "num_samples": self.num_samples, "max_ts": self.max_ts}

    def restore(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Continue from `state()`, as if nothing had happened.

        Raises:
            ValueError: the state is of a model with other parts.
        """
        part = self.fast if self.fast is not None else self.table
        part.restore(below("fast.", arrays))
        if self.deep is not None:
            self.deep.restore(below("deep.", arrays))
        self.others.restore(below("tasks.", arrays))
        self.num_samples = int(meta["num_samples"])
        self.max_ts = int(meta["max_ts"])
