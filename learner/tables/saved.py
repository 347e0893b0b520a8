"""A table as arrays, for checkpoints: all that is used, or what has changed, and all that the future depends on."""

from typing import TYPE_CHECKING

import numpy as np

from learner.named import below
from learner.tables.memory import plain
from learner.tables.rows import CHECKPOINT, FREE_FROM, NEWER_HERE, NEXT, NUM_FREE, PUBLISH

if TYPE_CHECKING:
    from learner.tables.table import Table

FILTER = "filter."
VALUES = "values."


def state_of(table: "Table") -> dict[str, np.ndarray]:
    """What `Table.state` is."""
    table.fetch()
    rows_N = np.flatnonzero(table.arrays.key_R[: table.end]).astype(np.int32)
    state = {name: np.ascontiguousarray(column) for name, column in _rows_of(table, rows_N).items()} | {
        "gone": np.zeros(0, np.int32),
        "free": table.arrays.free_R[: table.arrays.counters_5[NUM_FREE]].copy(),
        "free_from": np.zeros(1, np.int64),
    }
    return state | {FILTER + name: value for name, value in table.admission.state().items()}


def changes_of(table: "Table", *, whole: bool) -> dict[str, np.ndarray]:
    """What `Table.take_changes` is."""
    changes = state_of(table) if whole else _changed(table)
    arrays = table.arrays
    if whole:
        arrays.touched_R[: table.end] &= ~np.uint8(CHECKPOINT)
    arrays.counters_5[FREE_FROM] = arrays.counters_5[NUM_FREE]
    table.admission.forget_changes()
    return changes


def _changed(table: "Table") -> dict[str, np.ndarray]:
    arrays, touched_N = table.arrays, table.take_touched(CHECKPOINT)
    is_used_N = arrays.key_R[touched_N] > 0
    free_from, num_free = arrays.counters_5[FREE_FROM], arrays.counters_5[NUM_FREE]
    changed = _rows_of(table, touched_N[is_used_N]) | {
        "gone": touched_N[~is_used_N],
        "free": arrays.free_R[free_from:num_free].copy(),
        "free_from": np.array([free_from], np.int64),
    }
    return changed | {FILTER + name: value for name, value in table.admission.changes().items()}


def _rows_of(table: "Table", rows_N: np.ndarray) -> dict[str, np.ndarray]:
    """Copies of rows, whose values are views of one block, and of the counters."""
    arrays = table.arrays
    columns = {
        "rows": rows_N,
        "keys": arrays.key_R[rows_N],
        "fields": arrays.field_R[rows_N],
        "last_ts": arrays.last_ts_R[rows_N],
        "counters": arrays.counters_5[:FREE_FROM].copy(),
    }
    block_NX, begin = arrays.block_RX.take(rows_N, axis=0), 0
    for group in table.groups:
        columns[VALUES + group.name] = block_NX[:, begin : begin + group.width]
        begin += group.width
    return columns


def restore(table: "Table", state: dict[str, np.ndarray]) -> None:
    """What `Table.restore` does."""
    _check(table, state)
    arrays, end, rows_N = table.arrays, table.end, state["rows"]
    for array in (arrays.block_RX, arrays.key_R, arrays.field_R, arrays.last_ts_R, arrays.touched_R):
        array[:end] = 0
    arrays.counters_5[:FREE_FROM] = state["counters"]
    arrays.counters_5[FREE_FROM] = len(state["free"])
    arrays.key_R[rows_N], arrays.field_R[rows_N] = state["keys"], state["fields"]
    arrays.last_ts_R[rows_N] = state["last_ts"]
    arrays.touched_R[rows_N] = PUBLISH | NEWER_HERE
    arrays.free_R[: len(state["free"])] = state["free"]
    for name, values_RW in table.values.items():
        values_RW[rows_N] = state[VALUES + name]
    table.index.clear()
    table.index.insert(plain(state["keys"], np.uint64), plain(rows_N, np.int32))
    table.evicted = []
    table.admission.restore(below(FILTER, state))


def _check(table: "Table", state: dict[str, np.ndarray]) -> None:
    saved = {name: values.shape[1] for name, values in below(VALUES, state).items()}
    here = {group.name: group.width for group in table.groups}
    if saved != here:
        raise ValueError(f"the saved table has values {saved}, this one has {here}: the model's settings have changed")
    if int(state["counters"][NEXT]) > table.max_rows + 1:
        raise ValueError(
            f"the saved table has used {int(state['counters'][NEXT]) - 1:,} rows, this one may have only "
            f"{table.max_rows:,}: allow as many"
        )
    if len(state[FILTER + "cells"]) and int(state[FILTER + "cells"].max()) >= table.admission.cells_C2.size:
        raise ValueError("the saved table's admission filter is larger than this one's: the settings have changed")
