"""What processes do with what they share: one changes it, the others read it while it does not."""

from collections.abc import Callable, Mapping

import numpy as np
from safetensors.numpy import save

from learner.named import ArraysError, arrays_in
from learner.tables.index import SharedIndex
from learner.tables.memory import give_back, reserve
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


class Shelf:
    """Arrays by name that one process puts there, for others to see; made within `sharing()`.

    Args:
        num_bytes: room for them; what is not used costs nothing.
    """

    def __init__(self, num_bytes: int) -> None:
        self._size_1 = reserve((1,), np.int64)
        self._bytes = reserve((num_bytes,), np.uint8)

    def put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put these there instead of what was; nobody reads meanwhile.

        Raises:
            ArraysError: there is not so much room.
        """
        blob = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        if len(blob) > len(self._bytes):
            raise ArraysError(f"{len(blob):,} bytes are to be shared, there is room for {len(self._bytes):,}")
        self._bytes[: len(blob)] = np.frombuffer(blob, np.uint8)
        self._size_1[0] = len(blob)

    def see(self) -> dict[str, np.ndarray]:
        """Views of what is there, until something else is; nothing before the first."""
        size = int(self._size_1[0])
        return arrays_in(self._bytes[:size].data) if size else {}

    def clear(self) -> None:
        """Have nothing there."""
        self._size_1[0] = 0
        give_back(self._bytes)
