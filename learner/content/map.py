"""The linear map from content to a space in which what behaves alike lies close, learned while the stream goes on.

Two InfoNCE terms (IDP, arXiv 2405.03562, section "cross-domain ID matcher"; the text's is that of SimCSE, Gao et al.,
EMNLP 2021): an item's content twice with other parts dropped; and its content beside that of one of the items whose
learned vectors are most like its own. Both with the others of the batch as negatives:

    L = - mean_i log exp(z_i . z_i' / tau) / sum_k exp(z_i . z_k' / tau),    z = x W / |x W|

Legend: B items of a batch, M items of the pool, H width of content, E of the map, D factors.
"""

from collections.abc import Mapping

import numpy as np

from learner.content.config import ContentStartSettings

_POSITIVES = 5
"""Items most alike in behaviour, of which one is drawn."""
_LOOKED_AT = 2048
"""Of the pool, among which they are looked for."""
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
_TINY = np.float32(1e-12)


def unit(vectors_NE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors at length 1, and their lengths (N, 1); a vector of length 0 stays.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))[0].tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths_N1 = np.sqrt(np.square(vectors_NE).sum(axis=1, keepdims=True))
    return vectors_NE / np.maximum(lengths_N1, _TINY), lengths_N1


def info_nce(first_BE: np.ndarray, second_BE: np.ndarray, temperature: float) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, and its derivatives by both, which are not at length 1 yet."""
    (z_BE, lengths_B1), (other_BE, other_lengths_B1) = unit(first_BE), unit(second_BE)
    logits_BB = z_BE @ other_BE.T / temperature
    logits_BB -= logits_BB.max(axis=1, keepdims=True)
    shares_BB = np.exp(logits_BB)
    shares_BB /= shares_BB.sum(axis=1, keepdims=True)
    size = len(z_BE)
    loss = -float(np.log(np.maximum(np.diagonal(shares_BB), _TINY)).mean())
    slope_BB = (shares_BB - np.eye(size, dtype=shares_BB.dtype)) / (size * temperature)
    slopes = slope_BB @ other_BE, slope_BB.T @ z_BE
    return loss, _through(slopes[0], z_BE, lengths_B1), _through(slopes[1], other_BE, other_lengths_B1)


def _through(slope_BE: np.ndarray, z_BE: np.ndarray, lengths_B1: np.ndarray) -> np.ndarray:
    """Derivative by a vector, of one by the vector at length 1."""
    along_B1 = (slope_BE * z_BE).sum(axis=1, keepdims=True)
    found_BE: np.ndarray = (slope_BE - along_B1 * z_BE) / np.maximum(lengths_B1, _TINY)
    return found_BE


class ContentMap:
    """W, and Adam's moments.

    Args:
        settings: of content-made starts.
        num_inputs: H.
        seed: of its first values, which keep cosines about as they are, and of what is drawn.
    """

    def __init__(self, settings: ContentStartSettings, num_inputs: int, seed: int) -> None:
        self._settings, self._seed = settings, seed
        shape = num_inputs, settings.width
        first_HE = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(settings.width)
        self.weights_HE = first_HE.astype(np.float32)
        self._first_HE, self._second_HE = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._steps_1 = np.zeros(1, np.int64)

    def learn(self, content_MH: np.ndarray, vectors_MD: np.ndarray) -> float:
        """A few steps; returns the last one's loss, NaN if there are too few items.

        Args:
            content_MH: weighted content of the pool.
            vectors_MD: learned vectors, less their mean.
        """
        loss = np.nan
        if len(content_MH) > 2 * _POSITIVES:
            for _ in range(self._settings.steps):
                loss = self._step(content_MH, vectors_MD)
        return loss

    def _step(self, content_MH: np.ndarray, vectors_MD: np.ndarray) -> float:
        how = self._settings
        rng = np.random.default_rng((self._seed, int(self._steps_1[0])))
        num_items = len(content_MH)
        chosen_B = rng.choice(num_items, min(how.batch, num_items), replace=False)
        x_BH = content_MH[chosen_B]
        kept = rng.random((2, *x_BH.shape), np.float32) >= how.dropout
        loss, slope_HE = self._of(x_BH * kept[0], x_BH * kept[1])
        if how.behaviour:
            positives_B = self._alike(chosen_B, vectors_MD, rng)
            more, slope_of_behaviour_HE = self._of(x_BH, content_MH[positives_B])
            loss, slope_HE = loss + how.behaviour * more, slope_HE + how.behaviour * slope_of_behaviour_HE
        self._adam(slope_HE)
        return loss

    def _of(self, first_BH: np.ndarray, second_BH: np.ndarray) -> tuple[float, np.ndarray]:
        weights_HE = self.weights_HE
        loss, first_BE, second_BE = info_nce(first_BH @ weights_HE, second_BH @ weights_HE, self._settings.temperature)
        return loss, first_BH.T @ first_BE + second_BH.T @ second_BE

    def _alike(self, chosen_B: np.ndarray, vectors_MD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each of the chosen, one of those that behave most like it."""
        num_items = len(vectors_MD)
        among_A = rng.choice(num_items, min(_LOOKED_AT, num_items), replace=False)
        cosines_BA = unit(vectors_MD[chosen_B])[0] @ unit(vectors_MD[among_A])[0].T
        cosines_BA[chosen_B[:, None] == among_A[None, :]] = -np.inf
        best_BK = np.argpartition(-cosines_BA, _POSITIVES - 1, axis=1)[:, :_POSITIVES]
        drawn_B = rng.integers(_POSITIVES, size=len(chosen_B))
        found_B: np.ndarray = among_A[best_BK[np.arange(len(chosen_B)), drawn_B]]
        return found_B

    def _adam(self, slope_HE: np.ndarray) -> None:
        """One step (Kingma and Ba 2015, algorithm 1)."""
        self._steps_1 += 1
        step = int(self._steps_1[0])
        self._first_HE += np.float32(1 - _BETA_1) * (slope_HE - self._first_HE)
        self._second_HE += np.float32(1 - _BETA_2) * (slope_HE * slope_HE - self._second_HE)
        scale_HE = np.sqrt(self._second_HE / np.float32(1 - _BETA_2**step)) + np.float32(_EPSILON)
        self.weights_HE -= np.float32(self._settings.lr / (1 - _BETA_1**step)) * self._first_HE / scale_HE

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything."""
        return {
            "weights": self.weights_HE.copy(),
            "first": self._first_HE.copy(),
            "second": self._second_HE.copy(),
            "steps": self._steps_1.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`."""
        self.weights_HE[:] = state["weights"]
        self._first_HE[:], self._second_HE[:] = state["first"], state["second"]
        self._steps_1[:] = state["steps"]
