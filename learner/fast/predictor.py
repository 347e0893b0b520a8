"""What the fast part predicts with: rows, dense weights, and the call that a scorer makes.

Legend: B samples, N occurrences of values, M of crosses, S signals, K components.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.fast.block import Block, Occurring, Predicted, TableArrays, check, occurring
from learner.fast.config import FastRecipe
from learner.fast.inputs.crosses import Ids, cross, ids_of, plan_of
from learner.fast.inputs.histories import merged
from learner.fast.layout import Constants, component_names, constants_of, served_groups
from learner.fast.state import FastState
from learner.fast.step import run
from learner.tables.table import Group, Table


class FastTables(NamedTuple):
    """The rows of a fast part."""

    values: Table
    crosses: Table
    beliefs: Table
    """How far negatives are believed to turn; without rows where nothing is learned."""


class FastPredictor:
    """Predicts; a `FastPart` learns, too.

    Args:
        settings: of the fast part.
        fields: declared fields of a sample, in the order of their numbers.
        tables: its rows.
        dense: its dense weights.
        constants: of the settings, for such rows.
    """

    def __init__(
        self,
        settings: FastRecipe,
        fields: Sequence[FieldSettings],
        tables: FastTables,
        dense: FastState,
        constants: Constants,
    ) -> None:
        self.components = component_names(settings, has_deep=constants.has_deep)
        self._plan = plan_of(settings.crosses, fields)
        self._constants = constants
        self._item_field = next((n for n, field in enumerate(fields) if field.name == "item_id"), 0)
        self.table, self.cross_table, self.beliefs = tables
        self.dense = dense

    def crosses_of(self, values: Ids) -> Ids:
        """Occurrences of the crosses of a block's values; the same for all parts of the same recipe."""
        return cross(ids_of(*values), self._plan)

    def look_up(
        self, values: Ids, ts_B: np.ndarray, *, learning: bool | np.ndarray, crosses: Ids | None = None
    ) -> tuple[Occurring, Occurring]:
        """Rows of a block's values and of their crosses, as its samples have them in turn.

        Args:
            values: the occurrences of B samples.
            ts_B: event times, ms.
            learning: of all, or of each sample: whether new ids get rows; see `Table.rows`.
            crosses: of `crosses_of`, if they are at hand.
        """
        values = ids_of(*values)
        crosses = cross(values, self._plan) if crosses is None else crosses
        found = []
        for table, ids in ((self.table, values), (self.cross_table, crosses)):
            if learning is False:
                rows_N = table.find(ids.keys_N)
            else:
                sizes_B = np.diff(ids.offsets_B1)
                marks_N = learning if isinstance(learning, bool) else np.repeat(learning, sizes_B)
                rows_N = table.rows(ids.keys_N, ids.kinds_N, np.repeat(ts_B, sizes_B), learning=marks_N)
            found.append(occurring(ids.offsets_B1, rows_N, ids.kinds_N, ids.weights_N))
        return found[0], found[1]

    def look_up_histories(
        self, values: Ids, entries: Ids, ts_B: np.ndarray, *, learning: bool | np.ndarray, crosses: Ids | None = None
    ) -> tuple[Occurring, Occurring, Occurring]:
        """The same, and the rows of the entries of the samples' histories; these get none that have none.

        Args:
            values: the occurrences of B samples.
            entries: of their histories (`history_ids`).
            ts_B: event times, ms.
            learning: of all, or of each sample.
            crosses: of `crosses_of`, if they are at hand.
        """
        if learning is False:
            found = self.look_up(values, ts_B, learning=False, crosses=crosses)
            return *found, occurring(entries.offsets_B1, self.table.find(entries.keys_N), *entries[2:])
        crosses = self.crosses_of(values) if crosses is None else crosses
        learn_B = np.broadcast_to(np.asarray(learning, np.bool_), len(ts_B))
        ours = merged(ids_of(*values), entries, ts_B, learn_B, self._item_field)
        rows_N = self.table.rows(ours.keys_N, ours.fields_N, ours.ts_N, learning=ours.learn_N)
        sizes_B = np.diff(crosses.offsets_B1)
        pairs_N = self.cross_table.rows(
            crosses.keys_N, crosses.kinds_N, np.repeat(ts_B, sizes_B), learning=np.repeat(learn_B, sizes_B)
        )
        return (
            occurring(values.offsets_B1, rows_N[~ours.is_entry_N], *values[2:]),
            occurring(crosses.offsets_B1, pairs_N, *crosses[2:]),
            occurring(entries.offsets_B1, rows_N[ours.is_entry_N], *entries[2:]),
        )

    def predict(self, block: Block) -> Predicted:
        """What is said of each sample; nothing changes.

        Raises:
            BlockError: a block that contradicts itself or the tables.
        """
        return self._run(block._replace(learn_B=np.zeros_like(block.learn_B)))

    def _run(self, block: Block) -> Predicted:
        constants = self._constants
        check(
            block,
            self.dense.num_signals,
            (len(constants.side_F), self.table.end),
            (constants.num_crosses, self.cross_table.end),
            self.beliefs.end,
            self.dense.arrays.levels_2L.shape[1],
            constants.num_histories,
        )
        num_samples, num_components = len(block.labels_B), len(self.components)
        predicted = Predicted(
            *(np.empty((num_samples, num_components), np.float32) for _ in range(2)),
            *(np.empty(num_samples, np.float32) for _ in range(4)),
        )
        ours, theirs = self.table.arrays, self.cross_table.arrays
        beliefs = self.beliefs.arrays.block_RX
        tables = TableArrays(ours.block_RX, ours.touched_R, theirs.block_RX, theirs.touched_R, beliefs)
        run(block, predicted, tables, self.dense.arrays, constants)
        return predicted


def served_part(
    settings: FastRecipe,
    fields: Sequence[FieldSettings],
    num_signals: int,
    *,
    has_deep: bool = False,
    more: Sequence[Group] = (),
) -> FastPredictor:
    """A fast part as a scorer holds it: its rows have what a prediction needs, and no more.

    Args:
        settings: of the learner's.
        fields: declared fields of a sample.
        num_signals: S, state signals of a sample.
        has_deep: whether blocks bring the logit of a deep part.
        more: what rows of values have besides.
    """
    num_crosses = len(settings.crosses)
    tables = FastTables(
        Table([*served_groups(settings), *more], [1] * len(fields), settings.max_rows),
        Table([Group("w", 1)], [1] * max(num_crosses, 1), settings.max_cross_rows if num_crosses else 1),
        beliefs_table(),
    )
    dense = FastState(settings, num_signals, has_deep=has_deep, seed=0)
    return FastPredictor(
        settings, fields, tables, dense, constants_of(settings, fields, has_deep=has_deep, learns=False)
    )


def beliefs_table(max_rows: int = 1) -> Table:
    """Where it is kept how far impressions are believed."""
    return Table([Group("q", 2)], [1], max_rows)
