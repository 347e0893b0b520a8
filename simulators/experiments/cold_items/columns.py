"""Ratings -> samples as the product's learner takes them, with counts as of each."""

from collections.abc import Iterator

import numpy as np

from learner.samples.columns import Samples
from learner.samples.keys import value_key
from learner.samples.kind import SampleKind
from learner.samples.layout import NUM_TEXTS, Layout
from learner.tables.compiled import compiled_maker
from simulators.experiments.ratings import Ratings, Side

_NO_TEXTS: list[str | None] = [None] * NUM_TEXTS
_BLOCK = 8192


class Columns:
    """Makes samples of a log, and counts as the state store does: before each sample, then with it.

    Args:
        ratings: the log; its fields are those of the layout.
        layout: of the samples; it has one action, which is the label.
    """

    def __init__(self, ratings: Ratings, layout: Layout) -> None:
        self._ratings, self._layout = ratings, layout
        self._users, self._items = (_Keyed(side, layout) for side in (ratings.users, ratings.items))
        self._users_E2 = np.zeros((len(ratings.users.ids_E), 2), np.uint32)
        self._items_E2 = np.zeros((len(ratings.items.ids_E), 2), np.uint32)

    def blocks(self, samples_N: np.ndarray, *, learned: bool) -> Iterator[Samples]:
        """Samples in this order, some thousands at a time.

        Args:
            samples_N: numbers of the samples.
            learned: whether they are learned from and counted; else they are only predicted, and their labels unknown.
        """
        for start in range(0, len(samples_N), _BLOCK):
            yield self._block(samples_N[start : start + _BLOCK], learned=learned)

    def _block(self, samples_B: np.ndarray, *, learned: bool) -> Samples:
        ratings, layout = self._ratings, self._layout
        users_B, items_B = ratings.users_N[samples_B], ratings.items_N[samples_B]
        labels_B = ratings.labels_N[samples_B]
        rows_B = np.zeros(len(samples_B), layout.dtype)
        rows_B["ts"], rows_B["negative_rate"] = ratings.ts_N[samples_B], 1.0
        rows_B["imp_key"] = samples_B + 1
        rows_B["values"] = np.nan
        if learned:
            rows_B["kind"] = np.where(labels_B > 0, SampleKind.POSITIVE, SampleKind.NEGATIVE)
            rows_B["label"] = labels_B
        else:
            rows_B["kind"] = SampleKind.SHOWN
        counted = _count(users_B, items_B, labels_B.astype(np.uint32), self._users_E2, self._items_E2, learned)
        rows_B["user_counts"], rows_B["item_counts"] = counted
        for side, entities_B in ((self._users, users_B), (self._items, items_B)):
            for column, keys_E in side.single.items():
                rows_B["keys"][:, column] = keys_E[entities_B]
            for column, keys in side.multi.items():
                rows_B["sizes"][:, column] = keys.sizes_E[entities_B]
        keys_M = self._multi_keys(users_B, items_B)
        return Samples(layout, rows_B, keys_M, _NO_TEXTS * len(samples_B))

    def _multi_keys(self, users_B: np.ndarray, items_B: np.ndarray) -> np.ndarray:
        """Keys of multi-valued fields, sample by sample, and field by field as the layout has them."""
        pieces = [self._users.multi.get(c) or self._items.multi[c] for c in range(len(self._layout.multi))]
        if not pieces:
            return np.zeros(0, np.uint64)
        of_user = [column in self._users.multi for column in range(len(pieces))]
        entities = [users_B if is_of_user else items_B for is_of_user in of_user]
        sizes_BK = np.stack([piece.sizes_E[e] for piece, e in zip(pieces, entities, strict=True)], axis=1)
        begins_BK = np.cumsum(sizes_BK).reshape(sizes_BK.shape) - sizes_BK
        keys_M = np.empty(int(sizes_BK.sum()), np.uint64)
        for k, (piece, e) in enumerate(zip(pieces, entities, strict=True)):
            sizes_B = sizes_BK[:, k]
            within = np.arange(int(sizes_B.sum())) - np.repeat(np.cumsum(sizes_B) - sizes_B, sizes_B)
            keys_M[np.repeat(begins_BK[:, k], sizes_B) + within] = piece.keys_V[
                np.repeat(piece.begins_E[e], sizes_B) + within
            ]
        return keys_M


class _Multi:
    """Keys of one multi-valued field, entity by entity."""

    def __init__(self, keys: list[list[int]]) -> None:
        self.sizes_E = np.array([len(each) for each in keys])
        self.begins_E = np.cumsum(self.sizes_E) - self.sizes_E
        self.keys_V = np.array([key for each in keys for key in each], np.uint64)


class _Keyed:
    """Keys of one side's fields, by the layout's column."""

    def __init__(self, side: Side, layout: Layout) -> None:
        names = [field.name for field in layout.fields]
        self.single: dict[int, np.ndarray] = {}
        self.multi: dict[int, _Multi] = {}
        num_fields = len(side.fields_F)
        for f, field in enumerate(side.fields_F):
            number = names.index(field.name)
            bounds = [side.offsets_EF[e * num_fields + f : e * num_fields + f + 2] for e in range(len(side.ids_E))]
            keys = [[value_key(field.name, text) for text in side.texts_V[begin:end]] for begin, end in bounds]
            if field.kind == "multi":
                self.multi[layout.multi.index(number)] = _Multi(keys)
            else:
                self.single[layout.single.index(number)] = np.array(
                    [each[0] if each else 0 for each in keys], np.uint64
                )


@compiled_maker
def _count(
    users_B: np.ndarray,
    items_B: np.ndarray,
    labels_B: np.ndarray,
    users_E2: np.ndarray,
    items_E2: np.ndarray,
    counts: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Impressions and positives of user and item before each sample; with `counts`, each is counted then."""
    of_user_B2 = np.empty((len(users_B), 2), np.uint32)
    of_item_B2 = np.empty((len(users_B), 2), np.uint32)
    for b in range(len(users_B)):
        user, item = users_B[b], items_B[b]
        for k in range(2):
            of_user_B2[b, k], of_item_B2[b, k] = users_E2[user, k], items_E2[item, k]
        if counts:
            users_E2[user, 0] += np.uint32(1)
            items_E2[item, 0] += np.uint32(1)
            users_E2[user, 1] += labels_B[b]
            items_E2[item, 1] += labels_B[b]
    return of_user_B2, of_item_B2
