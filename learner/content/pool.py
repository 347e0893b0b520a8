"""The pool: items that have learned enough to be taken from, as they were at the last look.

Legend: M items of the pool, C known items, H width of content, E of what is compared, X values of an item: its
first-order weight, then D factors. G categories, P pairs of an item and one of its categories.
"""

from typing import NamedTuple

import numpy as np

from learner.content.config import ContentStartSettings, Kind
from learner.content.groups import Groups, most_similar
from learner.content.map import unit


class Made(NamedTuple):
    """What one item starts with."""

    values_X: np.ndarray
    nearest_K: np.ndarray
    """Those in the pool that it was made of, most similar first; none if of more than `neighbours`, or of nothing."""
    similarity_K: np.ndarray


class Look(NamedTuple):
    """What is seen at a look, from which and the items' content the rest follows."""

    keys_M: np.ndarray
    values_MX: np.ndarray
    mean_X: np.ndarray
    """Of what is shown, rather than of what there is: item vectors are centred about it."""
    categories_G: np.ndarray
    """Keys, ascending, uint64."""
    means_GX: np.ndarray
    """Values of the items of each category."""
    idf_H: np.ndarray
    """How much each bucket says: log of items by items that have it; and of words, each dimension as much."""
    map_HE: np.ndarray
    """E is 0 where content is compared as it is."""


def look_of(
    keys_M: np.ndarray, values_MX: np.ndarray, evidence_M: np.ndarray, pairs_P2: np.ndarray, weights: "Weights"
) -> Look:
    """What is seen, from the items themselves.

    Args:
        keys_M: of the items.
        values_MX: what each has learned.
        evidence_M: what it has learned that from, by which means are weighted: about the number of its samples.
        pairs_P2: key of a category, and number of an item that is in it; uint64.
        weights: of content.
    """
    keys_G, of_P = np.unique(pairs_P2[:, 0], return_inverse=True)
    items_P, sums_GX = pairs_P2[:, 1].astype(np.int64), np.zeros((len(keys_G), values_MX.shape[1]))
    evidence_P = evidence_M[items_P].astype(np.float64)
    np.add.at(sums_GX, of_P, evidence_P[:, None] * values_MX[items_P])
    means_GX = (sums_GX / np.bincount(of_P, evidence_P, len(keys_G))[:, None]).astype(np.float32)
    return Look(keys_M, values_MX, _mean(values_MX, evidence_M), keys_G, means_GX, *weights)


def _mean(values_MX: np.ndarray, evidence_M: np.ndarray) -> np.ndarray:
    if not len(values_MX):
        return np.zeros(values_MX.shape[1], np.float32)
    mean_X: np.ndarray = (evidence_M @ values_MX / evidence_M.sum()).astype(np.float32)
    return mean_X


class Weights(NamedTuple):
    """How content is compared."""

    idf_H: np.ndarray
    map_HE: np.ndarray


def idf_of(num_items: int, num_items_H: np.ndarray) -> np.ndarray:
    """Logarithm of items by items that have something in a bucket, both and 1; shape (H,), float32.

    >>> idf_of(3, np.array([3, 1])).tolist() == [0, np.float32(np.log(2))]
    True
    """
    idf_H: np.ndarray = np.log((1.0 + num_items) / (1.0 + num_items_H)).astype(np.float32)
    return idf_H


def weighted(content_NH: np.ndarray, idf_H: np.ndarray) -> np.ndarray:
    """Content by how much each part says, at length 1."""
    return unit(content_NH * idf_H)[0]


def compared(content_NH: np.ndarray, look: Look) -> np.ndarray:
    """What cosines are taken of, at length 1."""
    weighted_NH = weighted(content_NH, look.idf_H)
    return unit(weighted_NH @ look.map_HE)[0] if look.map_HE.shape[1] else weighted_NH


class Pool:
    """Makes values of new items.

    Args:
        settings: of content-made starts.
        look: what was seen.
        compared_ME: of the items' content; not read where none are sought by it.
        kind: of what they are made.
        groups: of the items, where not all are compared; `compared_ME` is then by their places.
    """

    def __init__(
        self,
        settings: ContentStartSettings,
        look: Look,
        compared_ME: np.ndarray,
        kind: Kind = "item",
        groups: Groups | None = None,
    ) -> None:
        self._settings, self.look, self._compared_ME, self._groups = settings, look, compared_ME, groups
        # A vector that says nothing: of an item the mean, which is taken off; of a user none.
        self._nothing_X = look.mean_X if kind == "item" else np.zeros_like(look.mean_X)
        self._category_means = dict(zip(look.categories_G.tolist(), look.means_GX, strict=True))

    def make(self, content_H: np.ndarray, categories: np.ndarray) -> Made | None:
        """Values of one item; one at a time, so that they do not depend on what comes beside it. None: there are none.

        Args:
            content_H: its content.
            categories: keys of its categories.
        """
        method, mean_X = self._settings.method, self.look.mean_X
        if not len(self.look.keys_M) and method != "zero":
            return None
        if self._settings.finds:
            found = self._of_nearest(content_H)
            if found is not None:
                return found
        nobody = np.zeros(0, np.int64), np.zeros(0, np.float32)
        if method == "zero":
            return Made(np.zeros_like(mean_X), *nobody)
        means = [self._category_means[key] for key in categories.tolist() if key in self._category_means]
        return Made(self._shrunk(np.mean(means, axis=0) if means and method != "mean" else mean_X), *nobody)

    def _of_nearest(self, content_H: np.ndarray) -> Made | None:
        wanted_E = compared(content_H[None], self.look)[0]
        best_K, similarity_K = most_similar(wanted_E, self._compared_ME, self._groups, self._settings.neighbours)
        if not similarity_K[0] >= max(self._settings.least, 1e-6):
            return None
        weights_K = np.maximum(similarity_K, 0)
        values_X = (weights_K / weights_K.sum()) @ self.look.values_MX[best_K]
        return Made(self._shrunk(values_X), best_K, similarity_K)

    def _shrunk(self, values_X: np.ndarray) -> np.ndarray:
        """The weight towards 0, where a new one starts; the vector towards one that says nothing."""
        nothing_X = self._nothing_X
        shrunk_X: np.ndarray = nothing_X + np.float32(self._settings.factor_share) * (values_X - nothing_X)
        shrunk_X[0] = self._settings.weight_share * values_X[0]
        return shrunk_X


def no_pool(settings: ContentStartSettings, num_values: int, kind: Kind = "item") -> Pool:
    """Before the first look."""
    values_MX, keys_M = np.zeros((0, num_values), np.float32), np.zeros(0, np.uint64)
    width = settings.content_width
    nothing = Weights(np.zeros(width, np.float32), np.zeros((width, 0), np.float32))
    look = look_of(keys_M, values_MX, values_MX[:, 0], np.zeros((0, 2), np.uint64), nothing)
    return Pool(settings, look, np.zeros((0, width), np.float32), kind)
