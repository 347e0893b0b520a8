"""Which ids get a row: a count filter of fixed size that forgets by generations.

Most ids of a large field come once or twice and never again. Counting them exactly would cost as much as giving each a
row; so they are counted in a count-min sketch (Cormode and Muthukrishnan 2005) with conservative update (Estan and
Varghese 2002): a count may be too high, so that an id is admitted early, but never too low, as long as it is
remembered. Two generations are counted in turn; when the younger has seen `capacity` distinct ids, the older is thrown
away, so an id is remembered over at least `capacity` and at most twice as many distinct newcomers.

Legend: C cells, 2 generations side by side, so that both lie in one cache line.
"""

import numpy as np

from learner.tables.compiled import compiled
from learner.tables.hashing import mix
from learner.tables.memory import reserve

_NUM_HASHES = 3
_CELLS_PER_ID = 16
"""With these, one newcomer in 200 is taken for an id seen once, when a generation is full; on average one in 800."""
MAX_COUNT = 255
"""Counts are bytes."""
DISTINCT, YOUNGER = 0, 1
"""What `counters_2` holds: distinct ids of the younger generation, and which of the two it is."""


@compiled
def admits(cells_C2: np.ndarray, counters_2: np.ndarray, capacity: int, key: np.uint64, min_count: int) -> bool:
    """Count an occurrence of an id that has no row; whether it is at least the `min_count`-th."""
    mask, younger = np.uint64(len(cells_C2) - 1), counters_2[YOUNGER]
    first, step = mix(key), mix(~key) | np.uint64(1)
    count, remembered = MAX_COUNT, MAX_COUNT
    for h in range(_NUM_HASHES):
        cell = np.int64((first + np.uint64(h) * step) & mask)
        count = min(count, int(cells_C2[cell, younger]))
        remembered = min(remembered, int(cells_C2[cell, 1 - younger]))
    if count == 0:
        if counters_2[DISTINCT] >= capacity:
            younger = 1 - younger
            counters_2[YOUNGER], counters_2[DISTINCT] = younger, 0
            cells_C2[:, younger] = 0
            remembered = 0  # of what is the older one now, its count was 0
        counters_2[DISTINCT] += 1
    for h in range(_NUM_HASHES):
        cell = np.int64((first + np.uint64(h) * step) & mask)
        if cells_C2[cell, younger] == count and count < MAX_COUNT:
            cells_C2[cell, younger] = count + 1
    return count + remembered + 1 >= min_count


class Admission:
    """The filter's cells.

    Args:
        capacity: distinct ids per generation; memory is at most 2 * 16 bytes for each, 32 MiB for a million, and none
            if no field asks for more than one occurrence.
        min_counts: per field, the occurrence from which an id has a row.

    Raises:
        ValueError: an occurrence that cannot be counted.
    """

    def __init__(self, capacity: int, min_counts: np.ndarray) -> None:
        if len(min_counts) and not 1 <= int(min_counts.min()) <= int(min_counts.max()) <= MAX_COUNT:
            raise ValueError(
                f"min_count must be 1 to {MAX_COUNT}, as counts are bytes, got {int(min_counts.min())} to "
                f"{int(min_counts.max())}: ask for fewer occurrences before an id has a row"
            )
        self.capacity = capacity
        num_cells = 1 << (_CELLS_PER_ID * capacity - 1).bit_length() if (min_counts > 1).any() else 1
        self.cells_C2 = reserve((num_cells, 2), np.uint8)
        self.counters_2 = np.zeros(2, np.int64)

    def state(self) -> dict[str, np.ndarray]:
        """Cells that are not 0, and counters."""
        flat = self.cells_C2.reshape(-1)
        used = np.flatnonzero(flat)
        return {"cells": used.astype(np.uint32), "counts": flat[used], "counters": self.counters_2.copy()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state()` of a filter of the same size."""
        self.cells_C2[:] = 0
        self.cells_C2.reshape(-1)[state["cells"]] = state["counts"]
        self.counters_2[:] = state["counters"]
