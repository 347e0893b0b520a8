"""What the fast part predicts with: rows, dense weights, and the call that a scorer makes.

Legend: B samples, N occurrences of values, M of crosses, S signals, K components.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from learner.config import FieldSettings
from learner.content.config import Kind, starts_of
from learner.content.known import content_table
from learner.content.stand_ins import StandIns
from learner.fast.block import Block, Occurring, Predicted, TableArrays, check, new_work, occurring
from learner.fast.config import FastRecipe
from learner.fast.inputs.crosses import cross, plan_of
from learner.fast.inputs.histories import Entries, rows_as_learned
from learner.fast.layout import Constants, component_names, constants_of, num_covariances, served_groups
from learner.fast.state import FastState
from learner.fast.step import run
from learner.tables.ids import Ids, ids_of, rows_of
from learner.tables.table import Group, Table

_NOBODY: Mapping[Kind, Sequence[str]] = {}


class FastTables(NamedTuple):
    """The rows of a fast part."""

    values: Table
    crosses: Table
    beliefs: Table
    """How far negatives are believed to turn; without rows where nothing is learned."""
    covariances: Table
    """Of users' weights and factors, likewise."""
    starts: tuple[StandIns, ...]
    """What stands for items and users without a row, if anything does."""


class Found(NamedTuple):
    """What B samples have, as a block takes it."""

    values: Occurring
    crosses: Occurring
    made_MX: np.ndarray | None
    """What stands for items and users that have no row, if anything does."""
    histories: Occurring | None = None
    """Items of histories, if there are vectors of these."""

    @property
    def rows(self) -> np.ndarray:
        """Row of each value, (N,), 0 if it has none."""
        rows_N = self.values.rows_N
        return rows_N if self.made_MX is None else np.maximum(rows_N, 0)


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
        self.table, self.cross_table, self.beliefs, self.covariances, self.starts = tables
        self.dense = dense

    @property
    def priors(self) -> np.ndarray:
        """Evidence that a first-order weight begins with, by field."""
        return self._constants.prior_F

    def crosses_of(self, values: Ids) -> Ids:
        """Occurrences of the crosses of a block's values; the same for all parts of the same recipe."""
        return cross(ids_of(*values), self._plan)

    def look_up(
        self,
        values: Ids,
        ts_B: np.ndarray,
        *,
        learning: bool | np.ndarray,
        crosses: Ids | None = None,
        names: Mapping[Kind, Sequence[str]] = _NOBODY,
        entries: Entries | None = None,
    ) -> Found:
        """Rows of a block's values and of their crosses, as its samples have them in turn.

        New items and users get what they start with, where that is made; for those without a row stands what they would
        start with. Entries of histories give no row to an item that has none.

        Args:
            values: the occurrences of B samples.
            ts_B: event times, ms.
            learning: of all, or of each sample: whether new ids get rows; see `Table.rows`.
            crosses: of `crosses_of`, if they are at hand.
            names: ids of the samples' items, or users, where they may be learned and start by their content.
            entries: of the samples' histories (`entries_of`), if there are vectors of these.
        """
        values = ids_of(*values)
        crosses = cross(values, self._plan) if crosses is None else crosses
        lacking = [self._lacking(starts, values) for starts in self.starts]
        rows_N, entry_rows_N = self._rows(values, entries, ts_B, learning)
        pairs_N = rows_of(self.cross_table, crosses, ts_B, learning)
        made_MX = self._start_all(values, names, lacking, rows_N)
        return Found(
            occurring(values.offsets_B1, rows_N, values.kinds_N, values.weights_N),
            occurring(crosses.offsets_B1, pairs_N, crosses.kinds_N, crosses.weights_N),
            made_MX,
            None
            if entries is None
            else occurring(entries.offsets_B1, entry_rows_N, entries.kinds_N, entries.weights_N),
        )

    def _rows(
        self, values: Ids, entries: Entries | None, ts_B: np.ndarray, learning: bool | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of values, and of entries, as their samples find them in turn."""
        if entries is None:
            return rows_of(self.table, values, ts_B, learning), np.zeros(0, np.int32)
        before_E, num_before = self.table.find(entries.keys_E), self.table.num_rows
        rows_N = rows_of(self.table, values, ts_B, learning)
        # Rows are made here, and none is freed.
        after_E = before_E if self.table.num_rows == num_before else self.table.find(entries.keys_E)
        return rows_N, rows_as_learned(entries, before_E, after_E, values, rows_N)

    def _lacking(self, starts: StandIns, values: Ids) -> np.ndarray:
        """Where ids are that have no row."""
        places_I = starts.places(values.kinds_N)
        lacking_I: np.ndarray = places_I[self.table.find(values.keys_N[places_I]) == 0]
        return lacking_I

    def _start_all(
        self, values: Ids, names: Mapping[Kind, Sequence[str]], lacking: Sequence[np.ndarray], rows_N: np.ndarray
    ) -> np.ndarray | None:
        """What stands for whoever has no row, to which `rows_N` then points; None if they all have some."""
        made: list[np.ndarray] = []
        for n, lacking_I in enumerate(lacking):
            if len(lacking_I):
                self._start(n, values, names, lacking_I, rows_N)
                made.append(self.starts[n].fill(values, lacking_I, rows_N, sum(map(len, made))))
        return np.concatenate(made) if any(map(len, made)) else None

    def _start(
        self, n: int, values: Ids, names: Mapping[Kind, Sequence[str]], lacking_I: np.ndarray, rows_N: np.ndarray
    ) -> None:
        """Those that have a row now."""

    def stands_for(self, values: Ids, kind: Kind) -> tuple[list[str], list[float]] | None:
        """Ids of those that the first sample's item, or user, is predicted by, and how like it they are.

        None if it has a row, or if nothing stands for it.
        """
        starts = next((one for one in self.starts if one.kind == kind), None)
        if starts is None:
            return None
        values = ids_of(*values)
        place = int(starts.places(values.kinds_N)[0])
        made = None if self.table.find(values.keys_N[[place]])[0] else starts.made_for(values, place)
        return None if made is None else (starts.names_of(made.nearest_K), made.similarity_K.tolist())

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
            self.covariances.end,
            self.dense.arrays.levels_2L.shape[1],
            constants.num_histories,
        )
        num_samples, num_components = len(block.labels_B), len(self.components)
        predicted = Predicted(
            *(np.empty((num_samples, num_components), np.float32) for _ in range(2)),
            *(np.empty(num_samples, np.float32) for _ in range(4)),
        )
        ours, theirs = self.table.arrays, self.cross_table.arrays
        of_learning = self.beliefs.arrays.block_RX, self.covariances.arrays.block_RX
        tables = TableArrays(ours.block_RX, ours.touched_R, theirs.block_RX, theirs.touched_R, *of_learning)
        dense = self.dense.arrays
        run(block, predicted, tables, dense, constants, new_work(dense, constants))
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
    # Covariances are for learning alone.
    settings = msgspec.structs.replace(settings, kalman=False)
    num_crosses = len(settings.crosses)
    stand_ins = tuple(
        StandIns(starts, fields, settings.factors, content_table(starts), kind)
        for kind, starts in starts_of(settings).items()
    )
    tables = FastTables(
        Table([*served_groups(settings), *more], [1] * len(fields), settings.max_rows),
        Table([Group("w", 1)], [1] * max(num_crosses, 1), settings.max_cross_rows if num_crosses else 1),
        beliefs_table(),
        covariances_table(settings),
        stand_ins,
    )
    dense = FastState(settings, num_signals, has_deep=has_deep, seed=0)
    return FastPredictor(
        settings, fields, tables, dense, constants_of(settings, fields, has_deep=has_deep, learns=False)
    )


def beliefs_table(max_rows: int = 1) -> Table:
    """Where it is kept how far impressions are believed."""
    # They are not published: nobody would ever ask which have gone.
    return Table([Group("q", 2)], [1], max_rows, followed=False)


def covariances_table(settings: FastRecipe, min_counts: Sequence[int] = (1,), max_rows: int = 1) -> Table:
    """Where covariances of users are kept, by their keys.

    Args:
        settings: of the fast part.
        min_counts: of each field, from which an id is kept.
        max_rows: users at the same time.
    """
    return Table([Group("P", max(num_covariances(settings), 1))], min_counts, max_rows, followed=False)
