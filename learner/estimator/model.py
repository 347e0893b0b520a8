"""The learner, its fields and its counts as one thing that can be copied and pickled."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from learner.estimator.counts import Counts
from learner.estimator.fields import ITEM_FIELD, UNKNOWN, USER_FIELD, Features, FieldBook
from learner.fast.inputs.signals import TIMED
from learner.learner import Learner
from learner.recipe import Recipe
from learner.samples.columns import Samples, of_cores
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind


class EstimatorModel:
    """Learns from dictionaries, each by itself, as the pipeline's learner does from samples.

    A field that is new makes a new learner that goes on from the state of the former: fields are appended, and what
    the fast part holds of a value does not depend on how many fields there are.

    Args:
        recipe: what the model is made of, without fields; it has no deep part.
        book: says which fields there are.

    Raises:
        ValueError: crosses of fields that are not declared.

    Pickled are arrays, never the tables' memory, most of which is reserved and not used.
    """

    def __init__(self, recipe: Recipe, book: FieldBook) -> None:
        names = [field.name for field in book.fields]
        for name in (name for cross in recipe.crosses for name in cross.fields):
            if name not in names:
                raise ValueError(
                    f"a cross is of field {name!r}, which is not declared; there are {', '.join(names)}. Fields of "
                    "crosses must be in `fields`"
                )
        # Samples here say no time: what the gate could be told of it would be their numbers.
        signals = tuple(name for name in recipe.fast.gate_signals if name not in TIMED)
        fast = msgspec.structs.replace(recipe.fast, gate_signals=signals)
        self._recipe = msgspec.structs.replace(recipe, fast=fast)
        self._book = book
        self._counts = Counts((value_key(USER_FIELD, UNKNOWN), value_key(ITEM_FIELD, UNKNOWN)))
        self._learner: Learner | None = None

    def learn(self, samples: Sequence[Features], labels: Sequence[bool]) -> None:
        """Learn from samples in order. What comes of it does not depend on how a stream is cut into calls.

        Raises:
            TypeError, ValueError: values that cannot be taken; then nothing has been learned.
        """
        before = self._learner
        if self._book.infer(samples) and before is not None:
            self._learner = self._new_learner(*before.state())
        columns = self._columns(samples)
        rows = columns.rows_B
        rows["label"] = labels
        rows["kind"] = np.where(rows["label"] > 0, SampleKind.POSITIVE, SampleKind.NEGATIVE)
        self._counts.fill_and_count(columns)
        self._current.learn(columns)

    def predict(self, samples: Sequence[Features]) -> np.ndarray:
        """Probability of a positive, shape (B,), as of now; nothing changes, and what is not known is cold."""
        columns = self._columns(samples)
        columns.rows_B["kind"] = SampleKind.SHOWN
        self._counts.fill(columns)
        return self._current.learn(columns).predictions_B

    def _columns(self, samples: Sequence[Features]) -> Samples:
        layout = self._current.layout
        cores = []
        for n, sample in enumerate(samples, self._counts.num_samples + 1):
            user, item, values = self._book.values(sample)
            # Event time only has to go on.
            cores.append(layout.pack_core(UNKNOWN, user, item, (n, 0), values))
        columns = of_cores(cores, layout)
        columns.rows_B["negative_rate"] = 1.0
        return columns

    @property
    def _current(self) -> Learner:
        if self._learner is None:
            self._learner = self._new_learner()
        return self._learner

    def _new_learner(self, arrays: dict[str, np.ndarray] | None = None, meta: dict[str, Any] | None = None) -> Learner:
        learner = Learner(msgspec.structs.replace(self._recipe, fields=self._book.fields))
        if arrays is not None and meta is not None:
            learner.restore(arrays, meta)
        return learner

    @property
    def num_bytes(self) -> int:
        """Memory that is used: rows of ids and crosses at their dearest, dense arrays, about 200 bytes per counted id.

        Addresses that are only reserved are not counted.
        """
        used = 200 * self._counts.num_ids
        fast = None if self._learner is None else self._learner.fast
        if fast is None:
            return used
        tables = (fast.table, fast.cross_table)
        used += int(sum(table.num_rows * table.bytes_per_id()[1] for table in tables))
        return used + sum(array.nbytes for array in fast.dense.state().values())

    def __getstate__(self) -> dict[str, Any]:
        learner = None if self._learner is None else self._learner.state()
        return {"recipe": self._recipe, "book": self._book, "counts": self._counts.state(), "learner": learner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["recipe"], state["book"])  # type: ignore[misc]
        self._counts.restore(state["counts"])
        if state["learner"] is not None:
            self._learner = self._new_learner(*state["learner"])
