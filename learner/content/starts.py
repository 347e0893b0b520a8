"""Content-made starts of a fast part: who is known, who is in the pool, and what new items are given.

The pool is looked at anew after so many samples learned, and stays as it is in between: so what an item starts with
depends on the samples before it, and not on how a stream was cut into blocks. Only what is new costs Python's time.

Legend: B samples, N occurrences, I occurrences of the item's id, M items that are made, X values: weight, D factors.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings, is_content
from learner.content.known import Known
from learner.content.map import ContentMap
from learner.content.pool import Look, Made, Pool, idf_of, no_pool, weighted
from learner.content.vectors import categories, hashed
from learner.named import below
from learner.tables.table import Table

_KNOWN, _MAP = "known.", "map."
_MOST_KEPT = 1 << 16
"""What was made since the last look is kept, and forgotten when it is of so many."""
_PER_ITEM = 2
"""Samples learned between two looks, for each known item: a look costs as much as there are."""


class Occurring(NamedTuple):
    """Occurrences of values in B samples, as the fast part has them."""

    offsets_B1: np.ndarray
    keys_N: np.ndarray
    fields_N: np.ndarray
    weights_N: np.ndarray


class ContentStarts:
    """Makes what new items start with, and what items without a row are predicted with.

    Args:
        settings: of content-made starts.
        fields: declared fields, in the order of their numbers.
        num_factors: D.
        seed: of the learned map.
    """

    def __init__(
        self, settings: ContentStartSettings, fields: Sequence[FieldSettings], num_factors: int, seed: int
    ) -> None:
        self._settings = settings
        names = [field.name for field in fields]
        self._item = names.index("item_id")
        self._is_content_F = np.array([is_content(field) for field in fields], np.uint8)
        self._category = names.index(settings.category) if settings.category else -1
        self._known = Known(settings.max_items, settings.buckets)
        self._map = ContentMap(settings, seed) if settings.has_map else None
        self.pool = no_pool(settings, 1 + num_factors)
        self.next_look = settings.every
        """Samples learned at which the pool is to be looked at."""
        self._numbers_M, self._num_seen = np.zeros(0, np.int64), 0
        self._made: dict[tuple[int, int], Made | None] = {}
        self._published = self._known.generation, 0, self.pool

    # New items ----------------------------------------------------------------------------------------------------

    def places(self, fields_N: np.ndarray) -> np.ndarray:
        """Where the items' ids are among occurrences of these fields; shape (I,), one of each sample."""
        return np.flatnonzero(fields_N == self._item)

    def start(
        self, values: Occurring, names: Sequence[str], places_I: np.ndarray, rows_I: np.ndarray, table: Table
    ) -> None:
        """Give items that just got their rows what they start with; from now on they are known.

        Args:
            values: of the samples.
            names: ids of the samples' items.
            places_I: where ids are that have a row since now.
            rows_I: the rows.
            table: whose.
        """
        _, first_U = np.unique(values.keys_N[places_I], return_index=True)
        # In the order in which they came.
        chosen = np.sort(first_U)
        places, rows = places_I[chosen], rows_I[chosen]
        samples, content_MH, print_M, pairs = self._content(values, places)
        for m, (place, row) in enumerate(zip(places.tolist(), rows.tolist(), strict=True)):
            key, of_item = int(values.keys_N[place]), pairs[m]
            made = self._make(key, int(print_M[m]), content_MH[m], of_item)
            if made is not None:
                table.values["w"][row], table.values["v"][row] = made.values_X[0], made.values_X[1:]
            self._known.add(key, names[samples[m]], content_MH[m], of_item)

    def stand_in(self, values: Occurring, places_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What stands for items that have no row.

        Args:
            values: of the samples.
            places_I: where their ids are.

        Returns:
            Which of what is made stands for each, shape (I,), -1 for nothing; and what is made, (M, X).
        """
        _, content_MH, print_M, pairs = self._content(values, places_I)
        numbers_I, made_of = np.full(len(places_I), -1), dict[tuple[int, int], int]()
        found: list[np.ndarray] = []
        for m, place in enumerate(places_I.tolist()):
            key = int(values.keys_N[place]), int(print_M[m])
            if key not in made_of:
                made = self._make(*key, content_MH[m], pairs[m])
                made_of[key] = -1 if made is None else len(found)
                found += [] if made is None else [made.values_X]
            numbers_I[m] = made_of[key]
        num_values = self.pool.look.values_MX.shape[1]
        return numbers_I, np.array(found, np.float32).reshape(-1, num_values)

    def made_for(self, values: Occurring, place: int) -> Made | None:
        """What stands for one item that has no row, and what it was made of."""
        _, content_MH, print_M, pairs = self._content(values, np.array([place]))
        return self._make(int(values.keys_N[place]), int(print_M[0]), content_MH[0], pairs[0])

    def names_of(self, keys_K: np.ndarray) -> list[str]:
        """Ids of known items."""
        return [self._known.name_of(key) for key in keys_K.tolist()]

    def _content(
        self, values: Occurring, places_I: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
        """Of the samples at these places: their numbers, content, its print, and keys of their categories."""
        samples_I = np.searchsorted(values.offsets_B1, places_I, side="right") - 1
        content_IH, print_I = hashed(*values, samples_I, self._is_content_F, self._settings.buckets)
        keys_P, of_P = categories(values.offsets_B1, values.keys_N, values.fields_N, samples_I, self._category)
        return samples_I, content_IH, print_I, np.split(keys_P, np.searchsorted(of_P, np.arange(1, len(samples_I))))

    def _make(self, key: int, print_: int, content_H: np.ndarray, of_item: np.ndarray) -> Made | None:
        if (key, print_) not in self._made:
            if len(self._made) >= _MOST_KEPT:
                self._made = {}
            self._made[key, print_] = self.pool.make(content_H, of_item)
        return self._made[key, print_]

    # The pool -----------------------------------------------------------------------------------------------------

    def look(self, table: Table, num_samples: int) -> None:
        """See who has learned enough by now, and what they have learned.

        Args:
            table: of the items.
            num_samples: learned so far.
        """
        known = self._known
        known.forget_gone(table)
        rows_C = table.find(known.keys)
        self._numbers_M = np.flatnonzero(table.values["G"][rows_C, 0] >= self._settings.evidence)
        rows_M = rows_C[self._numbers_M]
        values_MX = np.concatenate([table.values["w"][rows_M], table.values["v"][rows_M]], axis=1)
        evidence_M = table.values["G"][rows_M, 0]
        self._num_seen = len(known)
        if self._map is not None:
            idf_H, vectors_MD = idf_of(known.content), values_MX[:, 1:]
            content_MH = weighted(known.content[self._numbers_M], idf_H)
            if len(content_MH):
                self._map.learn(content_MH, vectors_MD - vectors_MD.mean(axis=0))
        self._see(values_MX, evidence_M)
        self.next_look = num_samples + max(self._settings.every, _PER_ITEM * len(known))

    def _see(self, values_MX: np.ndarray, evidence_M: np.ndarray) -> None:
        """The pool, from what it follows from."""
        map_HE = None if self._map is None else self._map.weights_HE
        idf_H = idf_of(self._known.content[: self._num_seen])
        self.pool = Pool(self._settings, self._look_of(values_MX, evidence_M, idf_H, map_HE))
        self._made = {}

    def _look_of(
        self, values_MX: np.ndarray, evidence_M: np.ndarray, idf_H: np.ndarray, map_HE: np.ndarray | None
    ) -> Look:
        known, numbers_M = self._known, self._numbers_M
        place_C = np.full(max(len(known), 1), -1)
        place_C[numbers_M] = np.arange(len(numbers_M))
        pairs = known.pairs.copy()
        place_P = place_C[pairs[:, 1].astype(np.int64)]
        pairs[:, 1] = place_P
        return Look(
            known.keys[numbers_M], values_MX, evidence_M, known.content[numbers_M], pairs[place_P >= 0], idf_H, map_HE
        )

    @property
    def has_pool(self) -> bool:
        """Whether there is somebody to take from."""
        return len(self.pool.look.keys_M) > 0

    # Elsewhere, and later -----------------------------------------------------------------------------------------

    def take_changed(self) -> dict[str, np.ndarray]:
        """What a scorer lacks that has had everything up to the last call; nothing if there was no look since."""
        known, (generation, num_known, pool) = self._known, self._published
        self._published = known.generation, len(known), self.pool
        if pool is self.pool:
            return {}
        return self.served(num_known if generation == known.generation else 0)

    def served(self, first: int = 0) -> dict[str, np.ndarray]:
        """What a scorer needs that has the items up to number `first`."""
        arrays = {
            "span": np.array([first, self._num_seen]),
            "members": self._numbers_M.copy(),
            "values": self.pool.look.values_MX.copy(),
            "evidence": self.pool.look.evidence_M.copy(),
        }
        if self._map is not None:
            arrays["map"] = self._map.weights_HE.copy()
        return arrays | {_KNOWN + name: array for name, array in self._known.since(first).items()}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Have what `served` gave; none: as it was."""
        if not arrays:
            return
        first, self._num_seen = arrays["span"].tolist()
        self._known.take(first, below(_KNOWN, arrays))
        if self._map is not None:
            self._map.weights_HE[:] = arrays["map"]
        self._numbers_M = arrays["members"].copy()
        self._see(arrays["values"].copy(), arrays["evidence"].copy())

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything that the future depends on."""
        arrays = {
            "members": self._numbers_M.copy(),
            "values": self.pool.look.values_MX.copy(),
            "evidence": self.pool.look.evidence_M.copy(),
            "counters": np.array([self._num_seen, self.next_look]),
        }
        arrays |= {_KNOWN + name: array for name, array in self._known.since(0).items()}
        if self._map is not None:
            arrays |= {_MAP + name: array for name, array in self._map.state().items()}
        return arrays

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`, bit for bit.

        Raises:
            ValueError: it is of other settings.
        """
        content_CH = state.get(_KNOWN + "content")
        wanted = 0 if self._map is None else self._map.weights_HE.shape[1]
        width = state[_MAP + "weights"].shape[1] if _MAP + "weights" in state else 0
        if content_CH is None or (content_CH.shape[1], width) != (self._settings.buckets, wanted):
            raise ValueError("the saved model's items started otherwise: the settings of [content_start] have changed")
        self._known.take(0, below(_KNOWN, state))
        if self._map is not None:
            self._map.restore(below(_MAP, state))
        self._numbers_M = state["members"].copy()
        self._num_seen, self.next_look = state["counters"].tolist()
        self._see(state["values"].copy(), state["evidence"].copy())
