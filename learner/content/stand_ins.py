"""What stands for items, or users, without a row, as a scorer has it: the pool, as the learner last saw it.

Words are those of items, of which it was made first; users have the same.

Where processes share a model, one of them makes the pool of what is published, and the others read it.

Legend: B samples, N occurrences, I occurrences of the id, M items of the pool, or that are made, X values:
weight, D factors; K those in the pool that an item is made of.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings, Kind, is_content, section_of
from learner.content.groups import Groups, grouped
from learner.content.known import CONTENT
from learner.content.names import name_at
from learner.content.pool import Look, Made, Pool, compared, no_pool
from learner.content.vectors import categories, hashed
from learner.content.words import words_of
from learner.named import ArraysError, below
from learner.tables.ids import Ids
from learner.tables.memory import is_shared
from learner.tables.shared import Shelf
from learner.tables.table import Table

NAMES, WORDS, _COMPARED, _GROUPS = "names.", "words", "compared", "groups."
_MOST_KEPT = 1 << 16
"""What was made since the last look is kept, and forgotten when it is of so many."""
_BYTES_OF_NAME = 1024
"""An id has at most 256 characters."""
_BYTES_OF_OTHERS = 64 << 20
"""Room for categories, and what is said of the whole pool."""


class StandIns:
    """Makes what items without a row are predicted with.

    Args:
        settings: of content-made starts.
        fields: declared fields, in the order of their numbers.
        num_factors: D.
        content: rows of the known items' content.
        kind: of what starts are made.

    Raises:
        ValueError: the file of words cannot be used; names it.
    """

    def __init__(
        self,
        settings: ContentStartSettings,
        fields: Sequence[FieldSettings],
        num_factors: int,
        content: Table,
        kind: Kind = "item",
    ) -> None:
        self._settings, self.kind = settings, kind
        names = [field.name for field in fields]
        self._id = names.index(f"{kind}_id")
        self._is_content_F = np.array([is_content(field, kind) for field in fields], np.uint8)
        self._category = names.index(settings.category) if settings.category else -1
        self._words = words_of(settings, fields, kind)
        self.content = content
        self._none = no_pool(settings, 1 + num_factors, kind)
        self.pool, self._names = self._none, dict[str, np.ndarray]()
        self._made: dict[tuple[int, int], Made | None] = {}
        self._shelf = Shelf(_room(settings, 1 + num_factors)) if is_shared() else None

    # Items ----------------------------------------------------------------------------------------------------------

    def places(self, fields_N: np.ndarray) -> np.ndarray:
        """Where their ids are among occurrences of these fields; shape (I,), one of each sample."""
        return np.flatnonzero(fields_N == self._id)

    def fill(self, values: Ids, places_I: np.ndarray, rows_N: np.ndarray, first: int = 0) -> np.ndarray:
        """Have something stand for items without a row, where there is something.

        Args:
            values: of the samples.
            places_I: where their ids are.
            rows_N: row of each value; that of an item for which m stands becomes -1 - m.
            first: the least m.

        Returns:
            What stands for them, from the first m on, (M, X).
        """
        lacking_I = places_I[(rows_N[places_I] == 0) & (values.keys_N[places_I] > 0)]
        _, content_MH, print_M, pairs = self._content(values, lacking_I)
        numbers_I, number_of = np.full(len(lacking_I), -1), dict[tuple[int, int], int]()
        found: list[np.ndarray] = []
        for m, place in enumerate(lacking_I.tolist()):
            key = int(values.keys_N[place]), int(print_M[m])
            if key not in number_of:
                made = self._make(*key, content_MH[m], pairs[m])
                number_of[key] = -1 if made is None else first + len(found)
                found += [] if made is None else [made.values_X]
            numbers_I[m] = number_of[key]
        rows_N[lacking_I] = -1 - numbers_I
        return np.array(found, np.float32).reshape(-1, len(self.pool.look.mean_X))

    def made_for(self, values: Ids, place: int) -> Made | None:
        """What stands for one item that has no row, and what it was made of."""
        _, content_MH, print_M, pairs = self._content(values, np.array([place]))
        return self._make(int(values.keys_N[place]), int(print_M[0]), content_MH[0], pairs[0])

    def names_of(self, numbers_K: np.ndarray) -> list[str]:
        """Ids of items of the pool."""
        return [name_at(self._names, number) for number in numbers_K.tolist()]

    def _content(
        self, values: Ids, places_I: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
        """Of the samples at these places: their numbers, content, its print, and keys of their categories."""
        samples_I = np.searchsorted(values.offsets_B1, places_I, side="right") - 1
        content_IH, print_I = hashed(
            *values, samples_I, self._is_content_F, self._settings.buckets, self._words.keys_N, self._words.vectors_NW
        )
        keys_P, of_P = categories(values.offsets_B1, values.keys_N, values.kinds_N, samples_I, self._category)
        return samples_I, content_IH, print_I, np.split(keys_P, np.searchsorted(of_P, np.arange(1, len(samples_I))))

    def _make(self, key: int, print_: int, content_H: np.ndarray, of_item: np.ndarray) -> Made | None:
        if (key, print_) not in self._made:
            if len(self._made) >= _MOST_KEPT:
                self._made = {}
            self._made[key, print_] = self.pool.make(content_H, of_item)
        return self._made[key, print_]

    # The pool -------------------------------------------------------------------------------------------------------

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Have the pool that was published, once the content of its items is there; none: as it was.

        Raises:
            ArraysError: it was made with other words.
        """
        if arrays:
            copies = {name: array.copy() for name, array in arrays.items()}
            # Of a learner that knew of no words there is none.
            if int(copies.get(WORDS, np.zeros(1))[0]) != self._words.print:
                raise ArraysError(
                    f"{section_of(self.kind)}.words: the learner's file of words is not that of this process, "
                    f"{self._settings.words!r}: give both the same file"
                )
            self._see(Look(*(copies[name] for name in Look._fields)), below(NAMES, copies))

    def _see(self, look: Look, names: Mapping[str, np.ndarray]) -> None:
        """Have a pool, of what was seen.

        Args:
            look: what was seen.
            names: ids of the pool's items.
        """
        rows_M = self.content.find(look.keys_M if self._settings.finds else look.keys_M[:0])
        arrays = look._asdict() | {NAMES + name: array for name, array in names.items()}
        compared_ME = compared(self.content.values[CONTENT][rows_M], look)
        if len(compared_ME) > self._settings.exact_items:
            groups = grouped(compared_ME)
            compared_ME = compared_ME[groups.order_M]
            arrays |= {_GROUPS + name: array for name, array in groups._asdict().items()}
        arrays[_COMPARED] = compared_ME
        if self._shelf is None:
            self._hold(arrays)
        else:
            self._shelf.put(arrays)
            self.attach()

    def _hold(self, arrays: Mapping[str, np.ndarray]) -> None:
        look = Look(*(arrays[name] for name in Look._fields))
        of_groups = below(_GROUPS, arrays)
        groups = Groups(**of_groups) if of_groups else None
        self.pool = Pool(self._settings, look, arrays[_COMPARED], self.kind, groups)
        self._names = below(NAMES, arrays)
        self._made = {}

    def attach(self) -> None:
        """See what another process has put there."""
        arrays = self._shelf.see() if self._shelf is not None else None
        if arrays:
            self._hold(arrays)
        elif arrays is not None:
            self._forget()

    def _forget(self) -> None:
        self.pool, self._names, self._made = self._none, {}, {}

    def clear(self) -> None:
        """Forget the pool, also where a process died while it put one there."""
        if self._shelf is not None:
            self._shelf.clear()
        self._forget()


def _room(settings: ContentStartSettings, num_values: int) -> int:
    """Bytes that a pool may have."""
    width = settings.width if settings.has_map else settings.content_width
    of_item = 4 * (num_values + width) + 24 + _BYTES_OF_NAME
    return settings.max_items * of_item + 4 * settings.content_width * (1 + width) + _BYTES_OF_OTHERS
