"""Content-made starts of a fast part: who is known, who is in the pool, and what new items, or users, are given.

The pool is looked at anew after so many samples learned, and stays as it is in between: so what an item starts with
depends on the samples before it, and not on how a stream was cut into blocks. Only what is new costs Python's time.

Legend: N occurrences, I occurrences of the id, C known items, M items of the pool, or that are made, P pairs of
an item and one of its categories, X values: weight, D factors.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from learner.config import FieldSettings
from learner.content.config import ContentStartSettings, Kind, section_of
from learner.content.known import Known
from learner.content.map import ContentMap
from learner.content.names import packed
from learner.content.pool import Look, Weights, idf_of, look_of, weighted
from learner.content.stand_ins import NAMES, WORDS, StandIns
from learner.named import below
from learner.tables.ids import Ids
from learner.tables.table import Table

_KNOWN, _LOOK, _MAP = "known.", "look.", "map."
_PER_ITEM = 2
"""Samples learned between two looks, for each known item: a look costs as much as there are."""


class ContentStarts(StandIns):
    """Makes what new items start with, and what items without a row are predicted with.

    Args:
        settings: of content-made starts.
        fields: declared fields, in the order of their numbers.
        num_factors: D.
        seed: of the learned map.
        kind: of what starts are made.
    """

    def __init__(
        self,
        settings: ContentStartSettings,
        fields: Sequence[FieldSettings],
        num_factors: int,
        seed: int,
        kind: Kind = "item",
    ) -> None:
        self._known = Known(settings)
        super().__init__(settings, fields, num_factors, self._known.table, kind)
        self._map = ContentMap(settings, settings.content_width, seed) if settings.has_map else None
        self.next_look = settings.every
        """Samples learned at which the pool is to be looked at."""
        self._is_published = False
        """Whether the pool is, as it is now."""

    # New items ------------------------------------------------------------------------------------------------------

    def start(self, values: Ids, names: Sequence[str], places_I: np.ndarray, rows_N: np.ndarray, table: Table) -> None:
        """Give items that just got their rows what they start with; from now on they are known.

        Args:
            values: of the samples.
            names: ids of the samples' items.
            places_I: where ids are that had no row.
            rows_N: row of each value now.
            table: whose.
        """
        places_I = places_I[rows_N[places_I] > 0]
        if not len(places_I):
            return
        _, first_U = np.unique(values.keys_N[places_I], return_index=True)
        # In the order in which they came.
        places_M = places_I[np.sort(first_U)]
        keys_M, rows_M = values.keys_N[places_M], rows_N[places_M]
        samples_M, content_MH, print_M, pairs = self._content(values, places_M)
        for m, row in enumerate(rows_M.tolist()):
            made = self._make(int(keys_M[m]), int(print_M[m]), content_MH[m], pairs[m])
            if made is not None:
                table.values["w"][row], table.values["v"][row] = made.values_X[0], made.values_X[1:]
        self._known.add(keys_M, [names[sample] for sample in samples_M.tolist()], content_MH, pairs)

    # The pool -------------------------------------------------------------------------------------------------------

    def look(self, table: Table, num_samples: int) -> None:
        """See who has learned enough by now, and what they have learned.

        Args:
            table: of the items.
            num_samples: learned so far.
        """
        known = self._known
        known.forget_gone(table)
        keys_C = known.keys
        rows_C = table.find(keys_C)
        is_in_C = table.values["G"][rows_C, 0] >= self._settings.evidence
        keys_M, rows_M = keys_C[is_in_C], rows_C[is_in_C]
        values_MX = np.concatenate([table.values["w"][rows_M], table.values["v"][rows_M]], axis=1)
        weights = self._weights(keys_M, values_MX[:, 1:])
        look = look_of(keys_M, values_MX, table.values["G"][rows_M, 0], self._pairs_of(keys_M), weights)
        self._see(look, packed(known.names_of(keys_M)))
        self._is_published = False
        self.next_look = num_samples + max(self._settings.every, _PER_ITEM * len(known))

    def _weights(self, keys_M: np.ndarray, vectors_MD: np.ndarray) -> Weights:
        """How content is compared from now on; the map learns."""
        known = self._known
        idf_H = idf_of(len(known), known.num_by_bucket())
        idf_H[self._settings.buckets :] = self._settings.words_share * np.log1p(len(known))
        if self._map is None:
            return Weights(idf_H, np.zeros((len(idf_H), 0), np.float32))
        if len(keys_M):
            content_MH = weighted(known.content_of(keys_M), idf_H)
            self._map.learn(content_MH, vectors_MD - vectors_MD.mean(axis=0))
        return Weights(idf_H, self._map.weights_HE.copy())

    def _pairs_of(self, keys_M: np.ndarray) -> np.ndarray:
        """Key of a category, and number in the pool of an item that is in it; (P, 2), uint64."""
        pairs_P2 = self._known.pairs.copy()
        place_R = np.full(self.content.end, -1)
        place_R[self.content.find(keys_M)] = np.arange(len(keys_M))
        place_P = place_R[self.content.find(pairs_P2[:, 1])]
        pairs_P2[:, 1] = place_P
        of_pool_P2: np.ndarray = pairs_P2[place_P >= 0]
        return of_pool_P2

    @property
    def has_pool(self) -> bool:
        """Whether there is somebody to take from."""
        return len(self.pool.look.keys_M) > 0

    # Elsewhere, and later -------------------------------------------------------------------------------------------

    def take_changed(self) -> dict[str, np.ndarray]:
        """What a scorer lacks of the pool that has had everything up to the last call; nothing if there was no look."""
        is_published, self._is_published = self._is_published, True
        return {} if is_published else self.served()

    def served(self) -> dict[str, np.ndarray]:
        """What a scorer needs besides the known items' content: 4 bytes for each value of an item of the pool, its key
        and its name, some 130 an item at 24 factors."""
        names = {NAMES + name: array for name, array in self._names.items()}
        return self.pool.look._asdict() | names | self._print_of_words

    @property
    def _print_of_words(self) -> dict[str, np.ndarray]:
        return {WORDS: np.array([self._words.print], np.uint64)}

    def state(self, of_table: Callable[[Table], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Copies of everything that the future depends on.

        Content, which is most of it, is what `of_table` takes of a table: in a checkpoint, that of new items. The rest
        is whole: names and categories of the known items, some 60 bytes each, keys and values of those in the pool, 108
        each at 24 factors, and the map; so 8 MB with each checkpoint at 50,000 items.
        """
        arrays = {_LOOK + name: array.copy() for name, array in self.pool.look._asdict().items()}
        arrays |= {"next_look": np.array([self.next_look])} | self._print_of_words
        arrays |= {_KNOWN + name: array for name, array in self._known.state(of_table).items()}
        if self._map is not None:
            arrays |= {_MAP + name: array for name, array in self._map.state().items()}
        return arrays

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state(Table.state)`, bit for bit.

        Raises:
            ValueError: it is of other settings.
        """
        width = self._settings.content_width
        map_HE = state.get(_MAP + "weights", np.zeros((width, 0)))
        shape = width, 0 if self._map is None else self._settings.width
        words = int(state.get(WORDS, np.zeros(1))[0])
        if map_HE.shape != shape or len(state.get(_LOOK + "idf_H", ())) != width or words != self._words.print:
            raise ValueError(
                f"the saved model's {self.kind}s started otherwise: "
                f"the settings of [{section_of(self.kind)}], or its file of words, have changed"
            )
        self._known.restore(below(_KNOWN, state))
        if self._map is not None:
            self._map.restore(below(_MAP, state))
        look = Look(*(state[_LOOK + name].copy() for name in Look._fields))
        self._see(look, packed(self._known.names_of(look.keys_M)))
        self.next_look = int(state["next_look"][0])
        self._is_published = False
