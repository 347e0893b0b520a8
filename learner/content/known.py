"""Items whose content is known, in the order in which they came.

Legend: C known items, H buckets, P pairs of an item and one of its categories.
"""

from collections.abc import Mapping, Sequence

import msgspec
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
        self.names: list[str] = []
        """Their ids."""
        self.generation = 0
        """Raised when items go, so that those behind them have other numbers."""

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def keys(self) -> np.ndarray:
        """(C,), uint64."""
        return self._keys[: len(self)]

    @property
    def content(self) -> np.ndarray:
        """(C, H), hashed, float32; not weighted."""
        return self._content[: len(self)]

    @property
    def pairs(self) -> np.ndarray:
        """(P, 2): key of a category, and number of an item that is in it; uint64."""
        return self._pairs[: self._num_pairs]

    def add(self, key: int, name: str, content_H: np.ndarray, categories: np.ndarray) -> None:
        """One that is not among them yet, as long as there is room; one that came back keeps what it had."""
        number = len(self)
        if number == len(self._keys) or key in self._numbers:
            return
        self._numbers[key] = number
        self.names.append(name)
        self._keys[number], self._content[number] = key, content_H
        self._put_pairs(np.unique(categories), np.full(1, number, np.uint64))

    def name_of(self, key: int) -> str:
        """Id of one of them."""
        return self.names[self._numbers[key]]

    def _put_pairs(self, keys_P: np.ndarray, numbers_P: np.ndarray) -> None:
        end = self._num_pairs + len(keys_P)
        while end > len(self._pairs):
            self._pairs = np.concatenate([self._pairs, np.zeros_like(self._pairs)])
        self._pairs[self._num_pairs : end, 0] = keys_P
        self._pairs[self._num_pairs : end, 1] = numbers_P
        self._num_pairs = end

    def forget_gone(self, table: Table) -> None:
        """Leave out those that have no row any more."""
        is_here_C = table.find(self.keys) > 0
        if is_here_C.all():
            return
        pairs, numbers_C = self.pairs.copy(), np.cumsum(is_here_C) - 1
        of_P = pairs[:, 1].astype(np.int64)
        kept = is_here_C[of_P]
        pairs_P2 = np.stack([pairs[kept, 0], numbers_C[of_P[kept]].astype(np.uint64)], axis=1)
        names = [name for name, is_here in zip(self.names, is_here_C.tolist(), strict=True) if is_here]
        self._fill(self.keys[is_here_C], names, self.content[is_here_C], pairs_P2)
        self.generation += 1

    def _fill(self, keys_C: np.ndarray, names: Sequence[str], content_CH: np.ndarray, pairs_P2: np.ndarray) -> None:
        self._keys[: len(keys_C)], self._content[: len(keys_C)] = keys_C, content_CH
        self.names = list(names)
        self._numbers = {key: number for number, key in enumerate(keys_C.tolist())}
        self._num_pairs = 0
        self._put_pairs(pairs_P2[:, 0], pairs_P2[:, 1])

    # As arrays ----------------------------------------------------------------------------------------------------

    def since(self, first: int) -> dict[str, np.ndarray]:
        """Copies of what there is of the items from number `first` on."""
        pairs = self.pairs[self.pairs[:, 1] >= first]
        return {
            "keys": self.keys[first:].copy(),
            "names": np.frombuffer(msgspec.msgpack.encode(self.names[first:]), np.uint8),
            "content": self.content[first:].copy(),
            "pairs": pairs.copy(),
        }

    def take(self, first: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Have what `since(first)` gave, behind the first ones that are here; the others go."""
        pairs_P2, names = self.pairs, msgspec.msgpack.decode(arrays["names"].tobytes(), type=list[str])
        self._fill(
            np.concatenate([self.keys[:first], arrays["keys"]]),
            self.names[:first] + names,
            np.concatenate([self.content[:first], arrays["content"]]),
            np.concatenate([pairs_P2[pairs_P2[:, 1] < first], arrays["pairs"]]),
        )
