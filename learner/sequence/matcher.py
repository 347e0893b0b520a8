"""IDP's cross-domain id matcher: text as the bridge on which ids go to a new domain (arXiv 2405.03562).

Texts become hashed TF-IDF vectors, and a linear map of them is trained with the paper's two InfoNCE terms: the same
text under two dropouts, and a source item's text beside that of one whose learned id is most like its own. An item of a
new domain then gets the mean of the ids of the m source items most like it, weighted by their cosines:

    e_i = sum_j w_ij e_j,    w_ij = max(cos(t_i, t_j), 0) / sum_k max(cos(t_i, t_k), 0),    j, k among the top m

Its text encoder is SimCSE, which no package ships; this one needs no download.

Legend: I items of the new domain, J source items, H buckets, E width of the map, D of ids, T words.
"""

from collections.abc import Sequence

import numpy as np
from xxhash import xxh3_64_intdigest

from learner.content.config import ContentStartSettings
from learner.content.map import ContentMap, unit
from learner.content.pool import idf_of, weighted
from learner.content.vectors import hashed
from learner.tables.ids import ids_of


def texts_of(words: Sequence[Sequence[str]], num_buckets: int) -> np.ndarray:
    """Hashed counts of words, shape (items, H), float32.

    Args:
        words: of each item, each as often as it is there.
        num_buckets: H, a power of two.
    """
    offsets_B1 = np.concatenate([[0], np.cumsum([len(each) for each in words])])
    keys_T = np.array([xxh3_64_intdigest(word.encode()) for each in words for word in each], np.uint64)
    values = ids_of(offsets_B1, keys_T, np.zeros(len(keys_T)), np.ones(len(keys_T)))
    found, _ = hashed(*values, np.arange(len(words)), np.ones(1, np.uint8), num_buckets)
    text_BH: np.ndarray = found
    return text_BH


class Matcher:
    """Learns on source items what texts are of items that behave alike.

    Args:
        settings: of the map, as for new items of a stream; `behaviour` 0: text alone.
        seed: of the map.
    """

    def __init__(self, settings: ContentStartSettings, seed: int) -> None:
        self._settings = settings
        self._map = ContentMap(settings, seed)
        self._idf_H = np.zeros(settings.buckets, np.float32)

    def learn(self, texts_JH: np.ndarray, ids_JD: np.ndarray, rounds: int) -> float:
        """Train on the source items; returns the last loss.

        Args:
            texts_JH: hashed counts of words.
            ids_JD: learned ids.
            rounds: of `settings.steps` steps each.
        """
        self._idf_H = idf_of(len(texts_JH), (texts_JH != 0).sum(axis=0))
        content_JH, centred_JD = weighted(texts_JH, self._idf_H), ids_JD - ids_JD.mean(axis=0)
        loss = np.nan
        for _ in range(rounds):
            loss = self._map.learn(content_JH, centred_JD)
        return loss

    def compared(self, texts_NH: np.ndarray) -> np.ndarray:
        """Vectors of length 1 whose products say how alike texts are; shape (N, E)."""
        found: np.ndarray = unit(weighted(texts_NH, self._idf_H) @ self._map.weights_HE)[0]
        return found


def generated(similar_IJ: np.ndarray, ids_JD: np.ndarray, num_nearest: int) -> np.ndarray:
    """Ids of new items from those of the source items most like them, shape (I, D), float32.

    An item that none is like gets the mean of all.

    Args:
        similar_IJ: cosines.
        ids_JD: of the source items.
        num_nearest: m.
    """
    num_nearest = min(num_nearest, similar_IJ.shape[1])
    best_IM = np.argpartition(-similar_IJ, num_nearest - 1, axis=1)[:, :num_nearest]
    weights_IM = np.maximum(np.take_along_axis(similar_IJ, best_IM, axis=1), 0.0)
    sums_I1 = weights_IM.sum(axis=1, keepdims=True)
    shares_IM = np.divide(weights_IM, sums_I1, out=np.zeros_like(weights_IM), where=sums_I1 > 0)
    made_ID = np.einsum("im,imd->id", shares_IM, ids_JD[best_IM])
    found_ID: np.ndarray = np.where(sums_I1 > 0, made_ID, ids_JD.mean(axis=0)).astype(np.float32)
    return found_ID
