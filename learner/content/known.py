"""Items whose content is known, as a learner has them.

Legend: N items that come, C those that are known, R rows, H width of content, P pairs of an item and one of its
categories.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from learner.content.config import ContentStartSettings
from learner.content.names import packed, unpacked
from learner.named import below
from learner.tables.table import Group, Table

CONTENT = "content"
_TABLE, _NAMES = "content.", "names."
_FIRST_PAIRS = 1024
"""Room for so many at first; it doubles."""


def content_table(settings: ContentStartSettings) -> Table:
    """Rows of items' content, not weighted: 4 bytes for each of its dimensions, 2 KiB an item by default."""
    return Table([Group(CONTENT, settings.content_width)], [1], settings.max_items)


class Known:
    """Their content, names and categories.

    Args:
        settings: of content-made starts.
    """

    def __init__(self, settings: ContentStartSettings) -> None:
        self.table = content_table(settings)
        self._names: dict[int, str] = {}
        self._pairs = np.zeros((_FIRST_PAIRS, 2), np.uint64)
        self._num_pairs = 0

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def keys(self) -> np.ndarray:
        """(C,), by their rows; uint64."""
        keys_R = self.table.arrays.key_R[: self.table.end]
        keys_C: np.ndarray = keys_R[keys_R > 0]
        return keys_C

    @property
    def pairs(self) -> np.ndarray:
        """(P, 2): key of a category, and key of an item that is in it; uint64."""
        return self._pairs[: self._num_pairs]

    def names_of(self, keys_N: np.ndarray) -> list[str]:
        """Their ids."""
        return [self._names[key] for key in keys_N.tolist()]

    def content_of(self, keys_N: np.ndarray) -> np.ndarray:
        """Their content, (N, H)."""
        content_NH: np.ndarray = self.table.values[CONTENT][self.table.find(keys_N)]
        return content_NH

    def num_by_bucket(self) -> np.ndarray:
        """How many of them have something in a bucket, (H,)."""
        # Rows that nobody has are zeros.
        num_items_H: np.ndarray = np.count_nonzero(self.table.values[CONTENT][: self.table.end], axis=0)
        return num_items_H

    # They come and go ---------------------------------------------------------------------------------------------

    def add(
        self, keys_N: np.ndarray, names: Sequence[str], content_NH: np.ndarray, categories: Sequence[np.ndarray]
    ) -> None:
        """Take in those that are not among them yet, as long as there is room; one that came back keeps what it had.

        Args:
            keys_N: of items that differ.
            names: their ids.
            content_NH: their content.
            categories: keys of each one's categories.
        """
        room = self.table.max_rows - len(self)
        new_N = np.flatnonzero(self.table.find(keys_N) == 0)[:room]
        self.table.put(keys_N[new_N], np.zeros(len(new_N), np.uint8), {CONTENT: content_NH[new_N]})
        for n in new_N.tolist():
            self._names[int(keys_N[n])] = names[n]
            self._add_pairs(np.unique(categories[n]), keys_N[n : n + 1])

    def _add_pairs(self, categories_P: np.ndarray, items_P: np.ndarray) -> None:
        end = self._num_pairs + len(categories_P)
        while end > len(self._pairs):
            self._pairs = np.concatenate([self._pairs, np.zeros_like(self._pairs)])
        self._pairs[self._num_pairs : end, 0], self._pairs[self._num_pairs : end, 1] = categories_P, items_P
        self._num_pairs = end

    def forget_gone(self, items: Table) -> None:
        """Leave out those that have no row among `items` any more."""
        keys_C = self.keys
        gone_N = keys_C[items.find(keys_C) == 0]
        if not len(gone_N):
            return
        self.table.forget(gone_N)
        for key in gone_N.tolist():
            del self._names[key]
        kept_P2 = self.pairs[self.table.find(self.pairs[:, 1]) > 0]
        self._num_pairs = 0
        self._add_pairs(kept_P2[:, 0], kept_P2[:, 1])

    # Checkpoints --------------------------------------------------------------------------------------------------

    def state(self, of_table: Callable[[Table], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Copies of everything: of the content what `of_table` says; the rest whole, for each item its id and 8 bytes,
        and 16 for each of its categories."""
        arrays = {_TABLE + name: array for name, array in of_table(self.table).items()}
        arrays |= {_NAMES + name: array for name, array in packed(self.names_of(self.keys)).items()}
        return arrays | {"pairs": self.pairs.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state(Table.state)`."""
        self.table.restore(below(_TABLE, state))
        self._names = dict(zip(self.keys.tolist(), unpacked(below(_NAMES, state)), strict=True))
        self._num_pairs = 0
        self._add_pairs(state["pairs"][:, 0], state["pairs"][:, 1])
