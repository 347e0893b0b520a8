"""IDP's cross-domain id matcher: text as the bridge on which ids go to a new domain (arXiv 2405.03562).

Texts become vectors, hashed TF-IDF or a sentence encoder's, and a linear map of them is trained with the paper's two
InfoNCE terms: the same text under two dropouts, and a source item's text beside that of one whose learned id is most
like its own. An item of a new domain then gets the mean of the ids of the m source items most like it, weighted by
their cosines:

    e_i = sum_j w_ij e_j,    w_ij = max(cos(t_i, t_j), 0) / sum_k max(cos(t_i, t_k), 0),    j, k among the top m

Its text encoder is SimCSE, which is trained further with the map; here it stays as it is.

Legend: I items of the new domain, J source items, H width of texts, E of the map, D of ids.
"""

import numpy as np

from learner.content.config import ContentStartSettings
from learner.content.map import ContentMap, unit
from learner.content.pool import weighted
from learner.sequence.texts import Texts


class Matcher:
    """Learns on source items what texts are of items that behave alike.

    Args:
        settings: of the map, as for new items of a stream; `behaviour` 0: text alone.
        texts: what texts are compared by.
        seed: of the map.
    """

    def __init__(self, settings: ContentStartSettings, texts: Texts, seed: int) -> None:
        self._settings, self._texts = settings, texts
        self._map = ContentMap(settings, texts.width, seed)
        self._weights_H = np.zeros(texts.width, np.float32)

    def learn(self, texts_JH: np.ndarray, ids_JD: np.ndarray, rounds: int) -> float:
        """Train on the source items; returns the last loss.

        Args:
            texts_JH: their texts' vectors.
            ids_JD: learned ids.
            rounds: of `settings.steps` steps each.
        """
        self._weights_H = self._texts.weights(texts_JH)
        content_JH, centred_JD = weighted(texts_JH, self._weights_H), ids_JD - ids_JD.mean(axis=0)
        loss = np.nan
        for _ in range(rounds):
            loss = self._map.learn(content_JH, centred_JD)
        return loss

    def compared(self, texts_NH: np.ndarray) -> np.ndarray:
        """Vectors of length 1 whose products say how alike texts are; shape (N, E)."""
        found: np.ndarray = unit(weighted(texts_NH, self._weights_H) @ self._map.weights_HE)[0]
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
