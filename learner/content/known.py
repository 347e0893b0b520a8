"""Items whose content is known, in the order in which they came.

Legend: C known items, H buckets, P pairs of an item and one of its categories.
"""

from collections.abc import Mapping

import numpy as np

from learner.tables.memory import reserve
from learner.tables.table import Table

_PAIRS = 4
"""Room for so many categories of an item at first; it grows."""


class Known:
    """Their keys, hashed content, and categories.

    Args:
        max_items: so many at most; their addresses are reserved, memory is used when they come.
        num_buckets: H.
    """

    def __init__(self, max_items: int, num_buckets: int) -> None:
        self._keys = np.zeros(max_items, np.uint64)
        self._content = reserve((max_items, num_buckets), np.float32)
        self._pairs = np.zeros((_PAIRS * 1024, 2), np.uint64)
        self._num_pairs = 0
        self._numbers: dict[int, int] = {}
        self.generation = 0
        """Raised when items go, so that those behind them have other numbers."""

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def keys_C(self) -> np.ndarray:
        """uint64."""
        return self._keys[: len(self)]

    @property
    def content_CH(self) -> np.ndarray:
        """Hashed, float32; not weighted."""
        return self._content[: len(self)]

    @property
    def pairs_P2(self) -> np.ndarray:
        """Key of a category, and number of an item that is in it; uint64."""
        return self._pairs[: self._num_pairs]

    def add(self, key: int, content_H: np.ndarray, categories: np.ndarray) -> None:
        """One that is not among them yet, as long as there is room; one that came back keeps what it had."""
        number = len(self)
        if number == len(self._keys) or key in self._numbers:
            return
        self._numbers[key] = number
        self._keys[number], self._content[number] = key, content_H
        self._put_pairs(np.unique(categories), np.full(1, number, np.uint64))

    def _put_pairs(self, keys_P: np.ndarray, numbers_P: np.ndarray) -> None:
        end = self._num_pairs + len(keys_P)
        while end > len(self._pairs):
            self._pairs = np.concatenate([self._pairs, np.zeros_like(self._pairs)])
        self._pairs[self._num_pairs : end, 0] = keys_P
        self._pairs[self._num_pairs : end, 1] = numbers_P
        self._num_pairs = end

    def forget_gone(self, table: Table) -> None:
        """Leave out those that have no row any more."""
        is_here_C = table.find(self.keys_C) > 0
        if is_here_C.all():
            return
        pairs, numbers_C = self.pairs_P2.copy(), np.cumsum(is_here_C) - 1
        of_P = pairs[:, 1].astype(np.int64)
        kept = is_here_C[of_P]
        self._fill(self.keys_C[is_here_C], self.content_CH[is_here_C], pairs[kept, 0], numbers_C[of_P[kept]])
        self.generation += 1

    def _fill(self, keys_C: np.ndarray, content_CH: np.ndarray, keys_P: np.ndarray, numbers_P: np.ndarray) -> None:
        self._keys[: len(keys_C)], self._content[: len(keys_C)] = keys_C, content_CH
        self._numbers = {key: number for number, key in enumerate(keys_C.tolist())}
        self._num_pairs = 0
        self._put_pairs(keys_P, numbers_P)

    # As arrays ----------------------------------------------------------------------------------------------------

    def since(self, first: int) -> dict[str, np.ndarray]:
        """Copies of what there is of the items from number `first` on."""
        pairs = self.pairs_P2[self.pairs_P2[:, 1] >= first]
        return {
            "keys": self.keys_C[first:].copy(),
            "content": self.content_CH[first:].copy(),
            "pairs": pairs.copy(),
        }

    def take(self, first: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Have what `since(first)` gave, behind the first ones that are here; the others go."""
        kept = self.since(0)
        pairs = np.concatenate([kept["pairs"][kept["pairs"][:, 1] < first], arrays["pairs"]])
        self._fill(
            np.concatenate([kept["keys"][:first], arrays["keys"]]),
            np.concatenate([kept["content"][:first], arrays["content"]]),
            pairs[:, 0],
            pairs[:, 1],
        )
