"""The pool: items that have learned enough to be taken from, as they were at the last look.

Legend: M items of the pool, C known items, H buckets, E width of what is compared, X values of an item: its first-order
weight, then D factors. P pairs of an item and one of its categories.
"""

from typing import NamedTuple

import numpy as np

from learner.content.config import ContentStartSettings
from learner.content.map import unit


class Made(NamedTuple):
    """What one item starts with."""

    values_X: np.ndarray
    nearest_K: np.ndarray
    """Keys of those that it was made of, most similar first; none if of more than `neighbours`, or of nothing."""
    similarity_K: np.ndarray


class Look(NamedTuple):
    """What is seen at a look; the rest follows from it."""

    keys_M: np.ndarray
    values_MX: np.ndarray
    evidence_M: np.ndarray
    """What each has learned from, by which means are weighted: about the number of its samples."""
    content_MH: np.ndarray
    """Not weighted."""
    pairs_P2: np.ndarray
    """Key of a category, and number in the pool of an item that is in it; uint64."""
    idf_H: np.ndarray
    """How much each bucket says: log of items by items that have it."""
    map_HE: np.ndarray | None
    """None: content is compared as it is."""


def idf_of(content_CH: np.ndarray) -> np.ndarray:
    """Logarithm of items by items that have something in a bucket, both and 1; shape (H,), float32.

    >>> idf_of(np.array([[1.0, 0.0], [1.0, -1.0], [1.0, 0.0]])).tolist() == [0, np.float32(np.log(2))]
    True
    """
    num_items_H = np.count_nonzero(content_CH, axis=0)
    idf_H: np.ndarray = np.log((1.0 + len(content_CH)) / (1.0 + num_items_H)).astype(np.float32)
    return idf_H


def weighted(content_NH: np.ndarray, idf_H: np.ndarray) -> np.ndarray:
    """Content by how much each part says, at length 1."""
    return unit(content_NH * idf_H)[0]


class Pool:
    """Makes values of new items.

    Args:
        settings: of content-made starts.
        look: what was seen.
    """

    def __init__(self, settings: ContentStartSettings, look: Look) -> None:
        self._settings, self.look = settings, look
        finds = settings.method in ("nearest", "learned")
        self._compared_ME = self.compared(look.content_MH) if finds else np.zeros((0, 1), np.float32)
        self.mean_X = _mean(look.values_MX, look.evidence_M)
        """Of what is shown, rather than of what there is: item vectors are centred about it."""
        self._category_means = self._means_of_categories()

    def compared(self, content_NH: np.ndarray) -> np.ndarray:
        """What cosines are taken of, at length 1."""
        weighted_NH = weighted(content_NH, self.look.idf_H)
        return weighted_NH if self.look.map_HE is None else unit(weighted_NH @ self.look.map_HE)[0]

    def _means_of_categories(self) -> dict[int, np.ndarray]:
        """Mean values of the items of each category."""
        keys_G, of_P = np.unique(self.look.pairs_P2[:, 0], return_inverse=True)
        items_P, sums_GX = self.look.pairs_P2[:, 1].astype(np.int64), np.zeros((len(keys_G), len(self.mean_X)))
        evidence_P = self.look.evidence_M[items_P].astype(np.float64)
        np.add.at(sums_GX, of_P, evidence_P[:, None] * self.look.values_MX[items_P])
        means_GX = (sums_GX / np.bincount(of_P, evidence_P, len(keys_G))[:, None]).astype(np.float32)
        return dict(zip(keys_G.tolist(), means_GX, strict=True))

    def make(self, content_H: np.ndarray, categories: np.ndarray) -> Made | None:
        """Values of one item; one at a time, so that they do not depend on what comes beside it. None: there are none.

        Args:
            content_H: its hashed content.
            categories: keys of its categories.
        """
        method = self._settings.method
        if not len(self.look.keys_M) and method != "zero":
            return None
        if method in ("nearest", "learned"):
            found = self._of_nearest(content_H)
            if found is not None:
                return found
        nobody = np.zeros(0, np.uint64), np.zeros(0, np.float32)
        if method == "zero":
            return Made(np.zeros_like(self.mean_X), *nobody)
        means = [self._category_means[key] for key in categories.tolist() if key in self._category_means]
        return Made(self._shrunk(np.mean(means, axis=0) if means and method != "mean" else self.mean_X), *nobody)

    def _of_nearest(self, content_H: np.ndarray) -> Made | None:
        cosines_M = self._compared_ME @ self.compared(content_H[None])[0]
        num_neighbours = min(self._settings.neighbours, len(cosines_M))
        best_K = np.argpartition(-cosines_M, num_neighbours - 1)[:num_neighbours]
        best_K = best_K[np.argsort(-cosines_M[best_K], kind="stable")]
        similarity_K = cosines_M[best_K]
        if not similarity_K[0] >= max(self._settings.least, 1e-6):
            return None
        weights_K = np.maximum(similarity_K, 0)
        values_X = (weights_K / weights_K.sum()) @ self.look.values_MX[best_K]
        return Made(self._shrunk(values_X), self.look.keys_M[best_K], similarity_K)

    def _shrunk(self, values_X: np.ndarray) -> np.ndarray:
        """The weight towards 0, where a new one starts; the vector towards the mean, which says nothing."""
        shrunk_X: np.ndarray = self.mean_X + np.float32(self._settings.factor_share) * (values_X - self.mean_X)
        shrunk_X[0] = self._settings.weight_share * values_X[0]
        return shrunk_X


def _mean(values_MX: np.ndarray, evidence_M: np.ndarray) -> np.ndarray:
    if not len(values_MX):
        return np.zeros(values_MX.shape[1], np.float32)
    mean_X: np.ndarray = (evidence_M @ values_MX / evidence_M.sum()).astype(np.float32)
    return mean_X


def no_pool(settings: ContentStartSettings, num_values: int) -> Pool:
    """Before the first look."""
    nothing = np.zeros((0, settings.buckets), np.float32)
    values = np.zeros((0, num_values), np.float32)
    pairs = np.zeros((0, 2), np.uint64)
    nobody = np.zeros(0, np.uint64), values, np.zeros(0, np.float32)
    return Pool(settings, Look(*nobody, nothing, pairs, nothing.sum(axis=0), None))
