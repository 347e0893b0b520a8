"""What processes do with a table that they share: one changes it, the others read it while it does not."""

from collections.abc import Callable

from learner.tables.index import SharedIndex
from learner.tables.memory import give_back
from learner.tables.rows import NEXT
from learner.tables.table import Table


def attach(table: Table) -> None:
    """See what another process has changed meanwhile."""
    if isinstance(table.index, SharedIndex):
        table.index.attach()


def clear(table: Table, pause: Callable[[], object] = lambda: None) -> None:
    """Forget every id of a table, also of one whose writer died in the middle of a change; with pauses.

    A learner's table would need more than that: its admission filter goes on.
    """
    table.index.clear()
    arrays = table.arrays
    for array in (arrays.block_RX, arrays.key_R, arrays.field_R, arrays.last_ts_R, arrays.touched_R, arrays.free_R):
        give_back(array, pause)
    arrays.counters_5[:] = 0
    arrays.counters_5[NEXT] = 1


def bytes_in_use(table: Table) -> int:
    """Memory of the rows that are in use, and of the index, as it is now."""
    arrays = table.arrays
    row = arrays.block_RX.strides[0] + arrays.key_R.itemsize + arrays.field_R.itemsize + arrays.touched_R.itemsize
    return row * table.end + table.index.nbytes
