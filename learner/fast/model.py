"""The fast part as a whole: its tables, its dense state, and the calls that a learner or a scorer makes.

Legend: B samples, N occurrences of values, M of crosses, S signals, K components.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.content.starts import ContentStarts
from learner.content.starts import Occurring as ItemValues
from learner.fast.belief import MAY_TURN, PLAIN, TURNED
from learner.fast.block import Block, Occurring, Predicted, check, occurring
from learner.fast.config import FastRecipe
from learner.fast.inputs.crosses import Ids, cross, plan_of
from learner.fast.layout import FACTORS, WEIGHT, component_names, constants_of, cross_value_groups, value_groups
from learner.fast.state import FastState
from learner.fast.step import run
from learner.fast.work import TableArrays
from learner.named import below
from learner.tables.memory import plain
from learner.tables.table import Group, Table

_TABLE, _CROSSES, _BELIEFS, _DENSE = "table.", "crosses.", "beliefs.", "dense."
_STARTS = "starts."


class Found(NamedTuple):
    """What B samples have, as a block takes it."""

    values: Occurring
    crosses: Occurring
    made_MX: np.ndarray
    """What stands for items that have no row."""


class FastPart:
    """Predicts, and learns from every sample by itself.

    A run with the same seed and the same samples gives the same predictions, however it is cut into blocks.

    Args:
        settings: of the fast part.
        fields: declared fields of a sample, in the order of their numbers.
        num_signals: S, state signals of a sample.
        seed: of new rows' factors and the gate's first weights.
        has_deep: whether blocks bring the logit of a deep part, which is one more component.
        is_weighted: whether samples weigh as in the fake-negative weighted loss (`learner/targets.py`).
        settles: whether negatives may turn, and are believed only so far until they are settled.
        more: what rows of values have besides.

    Raises:
        ValueError: settings that do not fit the fields.
        MemoryRefusedError: the tables' addresses cannot be reserved.
    """

    def __init__(
        self,
        settings: FastRecipe,
        fields: Sequence[FieldSettings],
        num_signals: int,
        seed: int = 0,
        *,
        has_deep: bool = False,
        is_weighted: bool = False,
        settles: bool = False,
        more: Sequence[Group] = (),
    ) -> None:
        self.components = component_names(settings, has_deep=has_deep)
        self._plan = plan_of(settings.crosses, fields)
        self._constants = constants_of(settings, fields, has_deep=has_deep, is_weighted=is_weighted)
        min_counts = [field.min_count for field in fields]
        self.table = Table(
            [*value_groups(settings, fields), *more], min_counts, settings.max_rows, seed, settings.counted_ids
        )
        # A cross is worth a row as soon as its values are: it is of ids that were admitted, or soon will be.
        num_crosses = len(settings.crosses)
        self.cross_table = Table(
            cross_value_groups(), [1] * max(num_crosses, 1), settings.max_cross_rows if num_crosses else 1
        )
        # As many as impressions may wait to be settled.
        self.beliefs = Table([Group("q", 2)], [1], settings.max_rows if settles else 1)
        self.dense = FastState(settings, num_signals, has_deep=has_deep, seed=seed)
        starts = settings.content_start
        self.starts = ContentStarts(starts, fields, settings.factors, seed) if starts.is_on else None
        self._nothing_made = np.zeros((0, FACTORS + settings.factors), np.float32)

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
        item_ids: Sequence[str] = (),
    ) -> Found:
        """Rows of a block's values and of their crosses, as its samples have them in turn.

        New items get what they start with; for items without a row stands what they would start with.

        Args:
            values: the occurrences of B samples.
            ts_B: event times, ms.
            learning: of all, or of each sample: whether new ids get rows; see `Table.rows`.
            crosses: of `crosses_of`, if they are at hand.
            item_ids: of the samples' items, where they may be learned and starts are made of content.
        """
        values = ids_of(*values)
        crosses = cross(values, self._plan) if crosses is None else crosses
        places_I = np.zeros(0, np.int64) if self.starts is None else self.starts.places(values.kinds_N)
        had_row_I = self.table.find(values.keys_N[places_I]) > 0
        found = []
        for table, ids in ((self.table, values), (self.cross_table, crosses)):
            sizes_B = np.diff(ids.offsets_B1)
            marks_N = learning if isinstance(learning, bool) else np.repeat(learning, sizes_B)
            rows_N = table.rows(ids.keys_N, ids.kinds_N, np.repeat(ts_B, sizes_B), learning=marks_N)
            found.append(occurring(ids.offsets_B1, rows_N, ids.kinds_N, ids.weights_N))
        made_MX = self._nothing_made
        if self.starts is not None and not had_row_I.all():
            made_MX = self._start(ItemValues(*values), item_ids, places_I[~had_row_I], found[0].rows_N)
        return Found(found[0], found[1], made_MX)

    def _start(
        self, values: ItemValues, item_ids: Sequence[str], places_I: np.ndarray, rows_N: np.ndarray
    ) -> np.ndarray:
        """Give new items their values; returns what stands for those without a row, to which `rows_N` then points."""
        assert self.starts is not None
        rows_I = rows_N[places_I]
        is_new_I = rows_I > 0
        if is_new_I.any():
            self.starts.start(values, item_ids, places_I[is_new_I], rows_I[is_new_I], self.table)
        lacking_I = places_I[~is_new_I & (values.keys_N[places_I] > 0)]
        if not len(lacking_I):
            return self._nothing_made
        numbers_I, values_MX = self.starts.stand_in(values, lacking_I)
        rows_N[lacking_I] = -1 - numbers_I
        made_MX = np.zeros((len(values_MX), self._nothing_made.shape[1]), np.float32)
        made_MX[:, WEIGHT], made_MX[:, FACTORS:] = values_MX[:, 0], values_MX[:, 1:]
        return made_MX

    def stands_for(self, values: Ids) -> tuple[list[str], list[float]] | None:
        """Ids of the items that the first sample's item is predicted by as it has no row, and how like it they are.

        None if it has one, or if nothing stands for it.
        """
        if self.starts is None:
            return None
        of_items = ItemValues(*ids_of(*values))
        place = int(self.starts.places(values.kinds_N)[0])
        made = None if self.table.find(of_items.keys_N[[place]])[0] else self.starts.made_for(of_items, place)
        return None if made is None else (self.starts.names_of(made.nearest_K), made.similarity_K.tolist())

    def look(self, num_samples: int) -> None:
        """See anew what new items may start with; `num_samples` were learned so far."""
        if self.starts is not None:
            self.starts.look(self.table, num_samples)

    def believe(self, imp_keys_B: np.ndarray, ts_B: np.ndarray, turn_B: np.ndarray) -> np.ndarray:
        """Where it is kept how far each sample is believed: `belief_rows_B` of their block.

        Args:
            imp_keys_B: keys of their impressions.
            ts_B: event times, ms.
            turn_B: what they are.
        """
        fields_B = np.zeros(len(turn_B), np.uint8)
        rows_B = self.beliefs.rows(imp_keys_B, fields_B, ts_B, learning=turn_B == MAY_TURN)
        rows_B[turn_B == PLAIN] = 0
        return rows_B

    def forget(self, imp_keys_B: np.ndarray, turn_B: np.ndarray) -> None:
        """Those that have turned, or are settled, have been learned from: no more is to come of them."""
        self.beliefs.drop(imp_keys_B[turn_B >= TURNED])

    def learn(self, block: Block) -> Predicted:
        """Predict each sample, and learn from it if it says so, before the next one is predicted.

        Raises:
            BlockError: a block that contradicts itself or the tables.
        """
        constants = self._constants
        check(
            block,
            self.dense.num_signals,
            (len(constants.side_F), self.table.end),
            (constants.num_crosses, self.cross_table.end),
            self.beliefs.end,
            self.dense.arrays.levels_2L.shape[1],
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

    def predict(self, block: Block) -> Predicted:
        """The same, with nothing learned: what `learn` would have said of each sample, had it been the next."""
        return self.learn(block._replace(learn_B=np.zeros_like(block.learn_B)))

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number, and every one that samples have since met in the tables."""
        return self.dense.is_finite

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything that the future depends on."""
        parts = {
            _TABLE: self.table.state(),
            _CROSSES: self.cross_table.state(),
            _BELIEFS: self.beliefs.state(),
            _DENSE: self.dense.state(),
        }
        if self.starts is not None:
            parts[_STARTS] = self.starts.state()
        return {prefix + name: array for prefix, arrays in parts.items() for name, array in arrays.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`, bit for bit.

        Raises:
            ValueError: it is of another model.
        """
        for prefix, part in (
            (_TABLE, self.table),
            (_CROSSES, self.cross_table),
            (_BELIEFS, self.beliefs),
            (_DENSE, self.dense),
        ):
            part.restore(below(prefix, state))
        if self.starts is not None:
            self.starts.restore(below(_STARTS, state))


def ids_of(offsets_B1: np.ndarray, keys_N: np.ndarray, kinds_N: np.ndarray, weights_N: np.ndarray) -> Ids:
    """Ids in the types that compiled code takes; copies only what is of another."""
    return Ids(
        plain(offsets_B1, np.int64), plain(keys_N, np.uint64), plain(kinds_N, np.uint8), plain(weights_N, np.float32)
    )
