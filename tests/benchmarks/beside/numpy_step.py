"""The fast part's step in NumPy, one sample at a time: what compiling is compared with."""

from collections.abc import Sequence

import numpy as np

from learner.config import FieldSettings
from learner.fast.block import Block
from learner.fast.config import FastRecipe
from learner.fast.layout import constants_of
from learner.fast.model import FastPart

_BATCH = 64
_FARTHEST = 3.0
_LEVEL_MEMORY = 0.9999


def sigmoid(z: np.ndarray | float) -> np.ndarray:
    """1 / (1 + exp(-z))."""
    out: np.ndarray = 1 / (1 + np.exp(-z))
    return out


class NumpyStep:
    """Predicts and learns with the tables of a fast part, and dense arrays of its own.

    Args:
        part: whose rows are changed.
        settings, fields: of that part; it has crosses, a gate and levels, and learns every label as it is.
    """

    def __init__(self, part: FastPart, settings: FastRecipe, fields: Sequence[FieldSettings]) -> None:
        self._w, self._g = (part.table.values[name][:, 0] for name in ("w", "G"))
        self._v, self._h = part.table.values["v"], part.table.values["H"]
        self._cross_w, self._cross_g = (part.cross_table.values[name][:, 0] for name in ("w", "G"))
        self._settings, self._constants = settings, constants_of(settings, fields, has_deep=False)
        dense = part.dense.arrays
        self._centre_2D, self._mean_S, self._var_S = (
            np.zeros_like(dense.centre_2D),
            dense.mean_S.copy(),
            dense.var_S.copy(),
        )
        self._layers = [dense.in_SH.copy(), dense.in_bias_H.copy(), dense.out_OH.copy(), dense.out_bias_O.copy()]
        self._gradients, self._first, self._second = ([np.zeros_like(a) for a in self._layers] for _ in range(3))
        self._levels_2L, self._level_squares_2L = dense.levels_2L.copy(), dense.level_squares_2L.copy()
        self._bias, self._squared_errors, self._num_seen = 0.0, 1.0, 0

    def learn(self, block: Block) -> np.ndarray:
        """Final logits, each made before its sample was learned from."""
        return np.array([self._learn_one(block, b) for b in range(len(block.labels_B))])

    def _learn_one(self, block: Block, b: int) -> float:
        constants = self._constants
        rows, kinds, weights = _of(block.values, b)
        cross_rows, cross_kinds, cross_weights = _of(block.crosses, b)
        sides = constants.side_F[kinds]
        sums = np.bincount(sides, weights * self._w[rows], minlength=4)
        crosses = np.bincount(cross_kinds, cross_weights * self._cross_w[cross_rows], minlength=constants.num_crosses)
        share = np.ones(4, np.float32)
        share[1] = 1 / max(len(np.unique(kinds[sides == 1])), 1)
        x = weights * share[sides]
        vectors = np.zeros((4, self._v.shape[1]), np.float32)
        np.add.at(vectors, sides, x[:, None] * self._v[rows])
        norms = 0.5 * np.log(1e-6 + (vectors[[0, 2]] ** 2).sum(1)) if constants.has_norms else ()
        vectors[2:] -= self._centre_2D
        components = np.concatenate([sums, crosses, (vectors[:2] @ vectors[2:].T).reshape(-1), [self._bias]])
        inner = components.sum()
        inputs = self._standardised(np.concatenate([block.signals_BS[b], norms]))
        hidden = np.maximum(inputs @ self._layers[0] + self._layers[1], 0)
        output = self._layers[2] @ hidden + self._layers[3]
        gates = 2 * sigmoid(output[:-1])
        gated = float(gates @ components + output[-1])
        logit = gated + self._level(block.levels_B2[b])
        error = float(block.labels_B[b] - sigmoid(inner))
        self._learn_rows(rows, kinds, error * weights, error * x, vectors, sides)
        self._cross_g[cross_rows] += (error * cross_weights) ** 2
        self._cross_w[cross_rows] += error * cross_weights / (constants.cross_prior + self._cross_g[cross_rows])
        self._centre_2D += constants.centre * vectors[2:]
        self._squared_errors += error**2
        self._bias += constants.bias_rate * error / self._squared_errors**0.5
        self._learn_level(block.levels_B2[b], logit, float(block.labels_B[b]))
        self._learn_gate(float(sigmoid(gated) - block.labels_B[b]) / _BATCH, inputs, hidden, components, gates)
        return logit

    def _level(self, levels_2: np.ndarray) -> float:
        return float(self._levels_2L[0, levels_2[0]] + self._levels_2L[1, levels_2[1]])

    def _learn_level(self, levels_2: np.ndarray, logit: float, label: float) -> None:
        p, constants, at = float(sigmoid(logit)), self._constants, ([0, 1], levels_2)
        self._level_squares_2L[at] = _LEVEL_MEMORY * self._level_squares_2L[at] + p * (1 - p)
        self._levels_2L[at] += constants.level_rate * (label - p) / (constants.level_prior + self._level_squares_2L[at])

    def _standardised(self, inputs: np.ndarray) -> np.ndarray:
        self._num_seen += 1
        share = 1 / min(self._num_seen, 2000)
        distance = inputs - self._mean_S
        self._mean_S += share * distance
        self._var_S += share * (distance**2 - self._var_S)
        scaled = (inputs - self._mean_S) / np.sqrt(self._var_S + 1e-4)
        out: np.ndarray = np.clip(scaled, -_FARTHEST, _FARTHEST)
        return out

    def _learn_rows(
        self,
        rows: np.ndarray,
        kinds: np.ndarray,
        gradients: np.ndarray,
        scaled: np.ndarray,
        vectors: np.ndarray,
        sides: np.ndarray,
    ) -> None:
        """An id that is twice in a sample learns once; that is as dear."""
        constants = self._constants
        self._g[rows] += gradients**2
        self._w[rows] += gradients / (constants.prior_F[kinds] + self._g[rows])
        totals = np.stack([vectors[0] + vectors[1], vectors[2] + vectors[3]])
        g = scaled[:, None] * totals[(sides < 2).astype(int)]
        self._h[rows] += g**2
        self._v[rows] += constants.rate_F[kinds][:, None] * g / np.sqrt(constants.square_prior + self._h[rows])

    def _learn_gate(
        self, slope: float, inputs: np.ndarray, hidden: np.ndarray, components: np.ndarray, gates: np.ndarray
    ) -> None:
        out = slope * np.append(components * gates * (1 - gates / 2), 1.0)
        back = (out @ self._layers[2]) * (hidden > 0)
        new = (np.outer(inputs, back), back, np.outer(out, hidden), out)
        self._gradients = [kept + one for kept, one in zip(self._gradients, new, strict=True)]
        if self._num_seen % _BATCH == 0:
            self._adam(self._num_seen // _BATCH)

    def _adam(self, step: int) -> None:
        gradients = self._gradients
        self._first = [0.9 * m + 0.1 * g for m, g in zip(self._first, gradients, strict=True)]
        self._second = [0.999 * v + 0.001 * g**2 for v, g in zip(self._second, gradients, strict=True)]
        rate = self._constants.gate_lr * (1 + 3 / (1 + step / 100)) / (1 - 0.9**step)
        corrected = 1 - 0.999**step
        moments = zip(self._layers, self._first, self._second, strict=True)
        self._layers = [w - rate * m / (np.sqrt(v / corrected) + 1e-8) for w, m, v in moments]
        self._gradients = [np.zeros_like(g) for g in gradients]


def _of(occurring: tuple[np.ndarray, ...], b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, kinds and weights of sample b."""
    inside = slice(occurring[0][b], occurring[0][b + 1])
    return occurring[1][inside], occurring[2][inside], occurring[3][inside]
