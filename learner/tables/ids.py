"""Occurrences of ids, sample by sample.

Legend: B samples, N occurrences.
"""

from typing import NamedTuple

import numpy as np

from learner.tables.memory import plain
from learner.tables.table import Table


class Ids(NamedTuple):
    """Occurrences of ids; sample b has those from `offsets_B1[b]` up to the next offset."""

    offsets_B1: np.ndarray
    """int64."""
    keys_N: np.ndarray
    """uint64; 0 for no value."""
    kinds_N: np.ndarray
    """uint8: which field, or which cross."""
    weights_N: np.ndarray
    """float32."""


def ids_of(offsets_B1: np.ndarray, keys_N: np.ndarray, kinds_N: np.ndarray, weights_N: np.ndarray) -> Ids:
    """Ids in the types that compiled code takes; copies only what is of another."""
    return Ids(
        plain(offsets_B1, np.int64), plain(keys_N, np.uint64), plain(kinds_N, np.uint8), plain(weights_N, np.float32)
    )


def rows_of(table: Table, ids: Ids, ts_B: np.ndarray, learning: bool | np.ndarray) -> np.ndarray:
    """Row of each occurrence, int32, 0 if it has none; see `Table.rows`.

    Args:
        table: whose rows.
        ids: of B samples.
        ts_B: event times, ms.
        learning: of all, or of each sample: whether new ids get rows.
    """
    if learning is False:
        return table.find(ids.keys_N)
    sizes_B = np.diff(ids.offsets_B1)
    marks_N = learning if isinstance(learning, bool) else np.repeat(learning, sizes_B)
    return table.rows(ids.keys_N, ids.kinds_N, np.repeat(ts_B, sizes_B), learning=marks_N)
