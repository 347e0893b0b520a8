"""A table as arrays, for checkpoints: only what is used, and everything that the future depends on."""

from typing import TYPE_CHECKING

import numpy as np

from learner.named import below
from learner.tables.memory import plain
from learner.tables.rows import NEXT, NUM_FREE

if TYPE_CHECKING:
    from learner.tables.table import Table

_FILTER = "filter."
_VALUES = "values."


def state_of(table: "Table") -> dict[str, np.ndarray]:
    """What `Table.state` is."""
    arrays = table.arrays
    rows_N = np.flatnonzero(arrays.key_R[: table.end]).astype(np.int32)
    state = {
        "rows": rows_N,
        "keys": arrays.key_R[rows_N],
        "fields": arrays.field_R[rows_N],
        "last_ts": arrays.last_ts_R[rows_N],
        "touched": arrays.touched_R[: table.end].copy(),
        "free": arrays.free_R[: arrays.counters_4[NUM_FREE]].copy(),
        "counters": arrays.counters_4.copy(),
        "evicted": np.concatenate([np.zeros(0, np.uint64), *table.evicted]),
    }
    state |= {_VALUES + name: values_RW[rows_N] for name, values_RW in table.values.items()}
    return state | {_FILTER + name: value for name, value in table.admission.state().items()}


def restore(table: "Table", state: dict[str, np.ndarray]) -> None:
    """What `Table.restore` does."""
    _check(table, state)
    arrays, end, rows_N = table.arrays, table.end, state["rows"]
    for array in (arrays.block_RX, arrays.key_R, arrays.field_R, arrays.last_ts_R, arrays.touched_R):
        array[:end] = 0
    arrays.counters_4[:] = state["counters"]
    arrays.key_R[rows_N], arrays.field_R[rows_N] = state["keys"], state["fields"]
    arrays.last_ts_R[rows_N] = state["last_ts"]
    arrays.touched_R[: table.end] = state["touched"]
    arrays.free_R[: len(state["free"])] = state["free"]
    for name, values_RW in table.values.items():
        values_RW[rows_N] = state[_VALUES + name]
    table.index.clear()
    table.index.insert(plain(state["keys"], np.uint64), plain(rows_N, np.int32))
    table.evicted = [state["evicted"].copy()] if len(state["evicted"]) else []
    table.admission.restore(below(_FILTER, state))


def _check(table: "Table", state: dict[str, np.ndarray]) -> None:
    saved = {name: values.shape[1] for name, values in below(_VALUES, state).items()}
    here = {group.name: group.width for group in table.groups}
    if saved != here:
        raise ValueError(f"the saved table has values {saved}, this one has {here}: the model's settings have changed")
    if int(state["counters"][NEXT]) > table.max_rows + 1:
        raise ValueError(
            f"the saved table has used {int(state['counters'][NEXT]) - 1:,} rows, this one may have only "
            f"{table.max_rows:,}: allow as many"
        )
    if len(state[_FILTER + "cells"]) and int(state[_FILTER + "cells"].max()) >= table.admission.cells_C2.size:
        raise ValueError("the saved table's admission filter is larger than this one's: the settings have changed")
