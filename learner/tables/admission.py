"""Which ids get a row: a count filter of fixed size that forgets by generations.

Most ids of a large field come once or twice and never again. Counting them exactly would cost as much as giving each a
row; so they are counted in a count-min sketch (Cormode and Muthukrishnan 2005) with conservative update (Estan and
Varghese 2002): a count may be too high, so that an id is admitted early, but never too low, as long as it is
remembered. Two generations are counted in turn; when the younger has seen `capacity` distinct ids, the older is thrown
away, so an id is remembered over at least `capacity` and at most twice as many distinct newcomers.

What the filter has counted since a checkpoint is kept as the keys themselves, in their order: cells lie anywhere, so
that a few thousand newcomers touch every page of them, while counting the same keys again gives the same cells.

Legend: C cells, 2 generations side by side, so that both lie in one cache line; N keys.
"""

from collections.abc import Mapping

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
_MAX_NOTED = 1 << 20
"""Occurrences between two checkpoints, 8 bytes each; of more, the next checkpoint has all cells."""


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


@compiled
def note(noted_N: np.ndarray, num_noted_1: np.ndarray, key: np.uint64) -> None:
    """Keep a key that is counted, if there is room; how many there were is known in any case."""
    if num_noted_1[0] < len(noted_N):
        noted_N[num_noted_1[0]] = key
    num_noted_1[0] += 1


@compiled
def _count_all(cells_C2: np.ndarray, counters_2: np.ndarray, capacity: int, keys_N: np.ndarray) -> None:
    for n in range(len(keys_N)):
        admits(cells_C2, counters_2, capacity, keys_N[n], 1)


@compiled
def _note_all(noted_N: np.ndarray, num_noted_1: np.ndarray, keys_N: np.ndarray) -> None:
    for n in range(len(keys_N)):
        note(noted_N, num_noted_1, keys_N[n])


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
        self.noted_N = reserve((_MAX_NOTED if num_cells > 1 else 1,), np.uint64)
        self.num_noted_1 = np.zeros(1, np.int64)

    def state(self) -> dict[str, np.ndarray]:
        """Cells that are not 0, and counters."""
        flat = self.cells_C2.reshape(-1)
        used = np.flatnonzero(flat)
        return {"cells": used.astype(np.uint32), "counts": flat[used]} | self._counters()

    def changes(self) -> dict[str, np.ndarray]:
        """What was counted since `forget_changes`; or `state()`, if that was too much."""
        num_noted = int(self.num_noted_1[0])
        if num_noted > len(self.noted_N):
            return self.state()
        return {"noted": self.noted_N[:num_noted].copy()} | self._counters()

    def forget_changes(self) -> None:
        """What has been counted so far is in a checkpoint."""
        self.num_noted_1[0] = 0

    def count(self, keys_N: np.ndarray) -> None:
        """Count occurrences of ids that were met elsewhere."""
        _count_all(self.cells_C2, self.counters_2, self.capacity, keys_N)
        _note_all(self.noted_N, self.num_noted_1, keys_N)

    def _counters(self) -> dict[str, np.ndarray]:
        return {"counters": self.counters_2.copy(), "size": np.array([len(self.cells_C2), self.capacity])}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from `state()` of a filter of the same size."""
        self.cells_C2[:] = 0
        self.cells_C2.reshape(-1)[state["cells"]] = state["counts"]
        self.counters_2[:] = state["counters"]
        self.forget_changes()


def counted_on(state: Mapping[str, np.ndarray], noted_N: np.ndarray) -> dict[str, np.ndarray]:
    """The state of a filter whose state was `state` before it counted the keys `noted_N`."""
    num_cells, capacity = (int(size) for size in state["size"])
    counting = Admission(capacity, np.array([2 if num_cells > 1 else 1]))
    counting.restore(dict(state))
    _count_all(counting.cells_C2, counting.counters_2, capacity, noted_N)
    return counting.state()
