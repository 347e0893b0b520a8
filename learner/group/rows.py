"""Rows that every rank has: each learns in its own copy, and from time to time the differences are put together.

A row has an owner, by the hash of its key. Whoever has touched one sends the owner how far it has come since the last
exchange; the owner puts these together, and what comes of it is the row of all ranks.

Legend: T rows, X values of a row, F fields, R rows of the table, P places.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learner.group.owners import owners
from learner.group.precision import Precision
from learner.tables.memory import reserve
from learner.tables.table import EXCHANGE, Table

COLUMNS = ("keys", "fields", "last_ts", "values")
Columns = Mapping[str, np.ndarray]
"""`COLUMNS` of T rows; values are differences times precisions on their way to the owner, and what they have become on
their way back."""


class SharedRows:
    """Those of one table.

    Args:
        table: the table.
        is_shared_F: whether a field's, or a cross', rows are shared.
        precision: of its values.
    """

    def __init__(self, table: Table, is_shared_F: np.ndarray, precision: Precision) -> None:
        self.table = table
        self.is_shared_F = is_shared_F
        self._precision = precision
        num_rows, width = table.arrays.block_RX.shape
        # What rows were after the last exchange: kept closely, as only some rows are shared.
        self._place_R = reserve((num_rows,), np.int32)
        self._key_P = reserve((num_rows,), np.uint64)
        self._before_PX = reserve((num_rows, width), np.float32)
        self._num_places = 0
        self.num_shared = 0
        """Rows that are shared, as of the last `count`."""

    def count(self) -> None:
        """See how many rows are shared, which takes a look at each."""
        arrays, end = self.table.arrays, self.table.end
        is_shared_N = self.is_shared_F[arrays.field_R[:end]] & (arrays.key_R[:end] > 0)
        self.num_shared = int(np.count_nonzero(is_shared_N))

    def own_rows(self, rows_T: np.ndarray) -> np.ndarray:
        """Those of some rows that are this rank's alone."""
        own_T: np.ndarray = rows_T[~self.is_shared_F[self.table.arrays.field_R[rows_T]]]
        return own_T

    def _before(self, rows_T: np.ndarray) -> np.ndarray:
        """Values after the last exchange, or, of rows that are newer than that, those they began with; (T, X)."""
        arrays = self.table.arrays
        places_T, keys_T = self._place_R[rows_T], arrays.key_R[rows_T]
        before_TX: np.ndarray = self._before_PX[places_T]
        # A place whose row was given back, and is another id's now, tells nothing of that.
        new_T = (places_T == 0) | (self._key_P[places_T] != keys_T)
        before_TX[new_T] = self.table.first_values(keys_T[new_T], arrays.field_R[rows_T[new_T]])
        return before_TX

    def _keep(self, rows_T: np.ndarray) -> None:
        new_N = rows_T[self._place_R[rows_T] == 0]
        self._place_R[new_N] = 1 + self._num_places + np.arange(len(new_N))
        self._num_places += len(new_N)
        places_T = self._place_R[rows_T]
        self._key_P[places_T] = self.table.arrays.key_R[rows_T]
        self._before_PX[places_T] = self.table.arrays.block_RX[rows_T]

    def take(self, num_ranks: int) -> list[Columns]:
        """How far rows have come since the last call, for the owner at each rank."""
        arrays, touched_N = self.table.arrays, self.table.take_touched(EXCHANGE)
        rows_T = touched_N[(arrays.key_R[touched_N] > 0) & self.is_shared_F[arrays.field_R[touched_N]]]
        block_TX, fields_T = arrays.block_RX[rows_T], arrays.field_R[rows_T]
        moved_TX = (block_TX - self._before(rows_T)) * self._precision.of(fields_T, block_TX)
        columns = (arrays.key_R[rows_T], fields_T, arrays.last_ts_R[rows_T], moved_TX.astype(np.float32))
        owners_T = owners(columns[0], num_ranks)
        return [
            {name: column[owners_T == rank] for name, column in zip(COLUMNS, columns, strict=True)}
            for rank in range(num_ranks)
        ]

    def merged(self, parts: Sequence[Columns]) -> Columns:
        """As the owner, what rows become of all that ranks have sent, in the order of the ranks.

        One that the table has no room for stays with those who have it, and is tried again.
        """
        keys_N, fields_N = (np.concatenate([part[name] for part in parts]) for name in ("keys", "fields"))
        keys_T, first_T = np.unique(keys_N, return_index=True)
        fields_T = fields_N[first_T]
        rows_T = self.table.admitted(keys_T, fields_T)
        before_TX = self._before(rows_T)
        moved_TX, last_ts_T = np.zeros(before_TX.shape), np.zeros(len(keys_T), np.int64)
        for part in parts:
            at = np.searchsorted(keys_T, part["keys"])
            moved_TX[at] += part["values"]
            last_ts_T[at] = np.maximum(last_ts_T[at], part["last_ts"])
        evidence_X, values_TX = self._precision.is_evidence_X, before_TX.astype(np.float64)
        values_TX[:, evidence_X] = np.maximum(values_TX[:, evidence_X] + moved_TX[:, evidence_X], 0.0)
        values_TX[:, ~evidence_X] += (moved_TX / self._precision.of(fields_T, values_TX))[:, ~evidence_X]
        columns: tuple[np.ndarray, ...] = (keys_T, fields_T, last_ts_T, values_TX.astype(np.float32))
        return {name: column[rows_T > 0] for name, column in zip(COLUMNS, columns, strict=True)}

    def put(self, merged: Columns) -> None:
        """Have rows be what has become of them."""
        arrays, rows_T = self.table.arrays, self.table.admitted(merged["keys"], merged["fields"])
        known_T = rows_T > 0
        rows_T = rows_T[known_T]
        arrays.block_RX[rows_T] = merged["values"][known_T]
        arrays.last_ts_R[rows_T] = np.maximum(arrays.last_ts_R[rows_T], merged["last_ts"][known_T])
        self.table.mark(rows_T)
        arrays.touched_R[rows_T] &= ~np.uint8(EXCHANGE)
        self._keep(rows_T)

    def restored(self) -> None:
        """The table is as it was after an exchange."""
        self._place_R[: self.table.end] = 0
        self._num_places = 0
        used_N = np.flatnonzero(self.table.arrays.key_R[: self.table.end])
        self._keep(used_N[self.is_shared_F[self.table.arrays.field_R[used_N]]])
        self.count()
