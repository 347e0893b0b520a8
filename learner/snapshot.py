"""What the learner publishes: dense weights and rows of the tables, all or those touched. Nothing is unpickled."""

from collections.abc import Callable, Iterator, Mapping
from mmap import mmap

import msgspec
import numpy as np
import torch
from safetensors.numpy import save

from learner.adaf2m2.batch import batch_of
from learner.adaf2m2.deep import VALUES, dense_of
from learner.content.known import CONTENT
from learner.content.stand_ins import StandIns
from learner.fast.block import Predicted, block_of
from learner.fast.inputs.levels import levels_of
from learner.fast.inputs.occurrences import Occurrences, occurrences_of, plan_of
from learner.fast.inputs.signals import signals_of
from learner.fast.model import FastPart
from learner.fast.predictor import FastPredictor
from learner.learner import Learner
from learner.named import arrays_in, below
from learner.parts import counts_of, deep_alone, ids_of, served_deep_table, served_fast_part
from learner.recipe import Recipe
from learner.samples.columns import Samples
from learner.tables.memory import is_shared, reserve
from learner.tables.rows import PUBLISH
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


class Changed(msgspec.Struct, frozen=True):
    """Rows of both tables that have changed, and keys that were evicted, since the last publish."""

    rows: tuple[np.ndarray, ...]
    evicted: tuple[np.ndarray, ...]
    starts: tuple[dict[str, np.ndarray], ...] = ()
    """What has changed in the content-made starts of each fast part that has some."""


def take_changed(learner: Learner) -> Changed:
    """What has changed since the last call."""
    tables = _tables(learner)
    return Changed(
        tuple(table.take_touched(PUBLISH) for table in tables),
        tuple(table.take_evicted() for table in tables),
        tuple(part.starts.take_changed() for part in _learning(learner) if part.starts is not None),
    )


def _learning(learner: Learner) -> list[FastPart]:
    return [*([] if learner.fast is None else [learner.fast]), *learner.others.parts]


def _starts_of(fast: FastPredictor | None, others: TaskPredictors) -> list[StandIns]:
    parts = [*([] if fast is None else [fast]), *others.parts]
    return [part.starts for part in parts if part.starts is not None]


def _tables(learner: Learner) -> list[Table]:
    return _tables_of(learner.fast, learner.table, learner.others)


def _tables_of(fast: FastPredictor | None, table: Table, others: TaskPredictors) -> list[Table]:
    contents = [starts.content for starts in _starts_of(fast, others)]
    return [table, *([fast.cross_table] if fast is not None else []), *others.tables, *contents]


def encode_snapshot(learner: Learner, changed: Changed | None) -> bytes:
    """Encode dense weights with the rows that have changed, or with every row in use if that is None."""
    arrays: dict[str, np.ndarray] = {}
    for n, table in enumerate(_tables(learner)):
        if changed is None:
            rows, evicted = np.flatnonzero(table.arrays.key_R[: table.end]), np.zeros(0, np.uint64)
        else:
            rows, evicted = changed.rows[n], changed.evicted[n]
        arrays |= {
            f"{n}.keys": table.arrays.key_R[rows],
            f"{n}.fields": table.arrays.field_R[rows],
            f"{n}.evicted": evicted,
        }
        arrays |= {f"{n}.values.{name}": table.values[name][rows] for name in table.values if name in _SERVED}
    if learner.fast is not None:
        arrays |= {f"fast.{name}": value for name, value in learner.fast.dense.state().items()}
    if learner.deep is not None:
        arrays |= learner.deep.weights()
    starts = [part.starts for part in _learning(learner) if part.starts is not None]
    for n, one in enumerate(starts):
        of_starts = one.served() if changed is None else changed.starts[n]
        arrays |= {f"starts.{n}.{name}": value for name, value in of_starts.items()}
    for n, part in enumerate(learner.others.parts):
        arrays |= {f"task.{n}.{name}": value for name, value in part.dense.state().items()}
    blob: bytes = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
    return blob


_SERVED = {VALUES, "w", "v", CONTENT}
"""Groups of a row that a prediction needs; the others are an optimiser's."""


_SLICE = 4096
"""Rows that are put into a table at a time: a fraction of a millisecond."""


def _not_among(keys_N: np.ndarray, table: Table, pause: Callable[[], object]) -> Iterator[np.ndarray]:
    """Keys of a table that are not among others, a slice at a time."""
    is_among_R = np.zeros(table.end, np.bool_)
    for at in range(0, len(keys_N), _SLICE):
        is_among_R[table.find(keys_N[at : at + _SLICE])] = True
        pause()
    for at in range(0, len(is_among_R), _SLICE):
        held_M = table.arrays.key_R[at : min(at + _SLICE, len(is_among_R))]
        gone_M = held_M[~is_among_R[at : at + _SLICE] & (held_M > 0)]
        if len(gone_M):
            yield gone_M
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
        self._deep = dense_of(recipe).eval() if recipe.has_deep else None
        self._others = TaskPredictors(recipe)
        if self._deep is not None and is_shared():
            for weights in self._deep.state_dict(keep_vars=True).values():
                weights.data = torch.from_numpy(reserve(tuple(weights.shape), weights.numpy(force=True).dtype))

    @property
    def tables(self) -> list[Table]:
        """Every table, in the order in which a snapshot has them."""
        return _tables_of(self._fast, self._table, self._others)

    def attach(self) -> None:
        """See what another process has loaded; to be called before it is read."""
        for table in self.tables:
            attach(table)
        for starts in _starts_of(self._fast, self._others):
            starts.attach()

    def clear(self) -> None:
        """Forget every id, also where a process died while it loaded; a full snapshot is to come."""
        for table in self.tables:
            clear(table)
        for starts in _starts_of(self._fast, self._others):
            starts.clear()

    def load(self, blob: bytes | mmap, *, alone: bool = False, pause: Callable[[], object] = lambda: None) -> None:
        """Take a full or incremental snapshot in.

        Args:
            blob: the snapshot; an incremental one goes on top of what is there.
            alone: whether it is a full one, and ids that it does not have are to go.
            pause: called between slices, so that a thread that loads lets others go on.
        """
        arrays = arrays_in(blob)
        for n, table in enumerate(self._tables_in(arrays)):
            keys, fields = arrays[f"{n}.keys"], arrays[f"{n}.fields"]
            table.drop(arrays[f"{n}.evicted"])
            if alone:
                # Before the new ones come, which may need their rows.
                for gone in _not_among(keys, table, pause):
                    table.drop(gone)
            values = {name: arrays[f"{n}.values.{name}"] for name in table.values}
            for at in range(0, len(keys), _SLICE):
                of = slice(at, at + _SLICE)
                table.put(keys[of], fields[of], {name: column[of] for name, column in values.items()})
                pause()
        if self._fast is not None:
            self._fast.dense.restore(below("fast.", arrays))
        for n, starts in enumerate(_starts_of(self._fast, self._others)):
            pool = below(f"starts.{n}.", arrays)
            if alone and not pool:
                starts.clear()
            starts.take(pool)
        for n, part in enumerate(self._others.parts):
            part.dense.restore(below(f"task.{n}.", arrays))
        if self._deep is not None:
            tensors = {name: torch.from_numpy(value.copy()) for name, value in below("dense.", arrays).items()}
            self._deep.load_state_dict(tensors)

    def _tables_in(self, arrays: Mapping[str, np.ndarray]) -> list[Table]:
        """Those that a snapshot has: one from before items started by their content has none of that."""
        tables, num_contents = self.tables, len(_starts_of(self._fast, self._others))
        has_contents = f"{len(tables) - 1}.keys" in arrays
        return tables if has_contents else tables[: len(tables) - num_contents]

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

    def stands_for(self, samples: Samples) -> tuple[list[str], list[float]] | None:
        """Ids of the items that the first sample's item is served by, as it has no row, and how like it they are; None
        if it is served by what it has learned itself."""
        return None if self._fast is None else self._fast.stands_for(ids_of(occurrences_of(samples, self._plan)))

    def _predict(self, samples: Samples) -> tuple[Predicted, np.ndarray | None, Occurrences]:
        """Of the main task; the deep part's logits of each, if it has them; occurrences of the samples' values."""
        occurrences = occurrences_of(samples, self._plan)
        rows_N, deep_B, deep_BT = self._table.find(occurrences.keys_N), None, None
        if self._deep is not None:
            norms_B2 = np.stack([samples.rows_B["user_norm"], samples.rows_B["item_norm"]], axis=1)
            batch = batch_of(occurrences, rows_N, norms_B2, counts_of(samples))
            with torch.inference_mode():
                rows_UW = torch.from_numpy(self._table.values[VALUES][batch.rows_U.numpy()])
                output = self._deep(rows_UW, batch)
            deep_B = output.main_B.numpy()
            deep_BT = None if output.main_BT is None else output.main_BT.numpy()
        if self._fast is None:
            assert deep_B is not None
            return deep_alone(deep_B), deep_BT, occurrences
        fast, nothing_B = self._recipe.fast, np.zeros(len(samples), np.float32)
        block = block_of(
            *self._fast.look_up(ids_of(occurrences), samples.rows_B["ts"], learning=False),
            nothing_B,
            signals_of(samples, fast.gate_signals, self._recipe.positive),
            levels_B2=levels_of(samples, fast.user_levels, fast.item_levels),
            **({} if deep_B is None else {"deep_B": deep_B}),
        )
        return self._fast.predict(block), deep_BT, occurrences


__all__ = ["Changed", "Part", "Scores", "ServingModel", "encode_snapshot", "take_changed"]
