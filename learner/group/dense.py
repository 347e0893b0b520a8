"""The dense arrays of a fast part, put together from those of all ranks: every rank works out the same.

    sums and counts                          what each has added, together
    bias, levels                             likewise, by their precision (`learner/group/precision.py`)
    running means, the gate, Adam's moments  the mean over the ranks, by the samples that each has learned
    gradients that wait for a step, masks' random numbers  each rank's own

Legend: N ranks, as in `learner/fast/state.py` otherwise.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from learner.fast.config import FastRecipe
from learner.fast.state import BIAS, SEEN, SQUARED_ERRORS, STEPS, Dense, FastState

_MEANS = ("population_X", "centre_2D", "mean_S", "var_S", "gate_P", "first_P", "second_P")
_OTHERS = ("bias_2", "delays_2", "levels_2L", "level_squares_2L", "counters_3")
SHARED = (*_MEANS, *_OTHERS)


class SharedDense:
    """Of one fast part.

    Args:
        state: its dense arrays.
        settings: of the fast part.
    """

    def __init__(self, state: FastState, settings: FastRecipe) -> None:
        self._arrays: Dense = state.arrays
        self._level_prior = float(settings.level_prior)
        self.keep()

    def keep(self) -> None:
        """The arrays are as they are at all ranks."""
        self._before = self.take()

    def take(self) -> dict[str, np.ndarray]:
        """Copies of what is shared."""
        return {name: getattr(self._arrays, name).copy() for name in SHARED}

    def put(self, parts: Sequence[Mapping[str, np.ndarray]], learned_N: np.ndarray) -> None:
        """Have the arrays be what becomes of those of all ranks.

        Args:
            parts: of each rank, as `take` gave them.
            learned_N: samples that each has learned since the last exchange.
        """
        if not learned_N.any():
            return
        share_N = learned_N / learned_N.sum()
        arrays, before = self._arrays, self._before
        for name in _MEANS:
            mean = sum(share * part[name].astype(np.float64) for share, part in zip(share_N, parts, strict=True))
            getattr(arrays, name)[...] = mean
        arrays.delays_2[:] = _summed("delays_2", parts, before)
        arrays.counters_3[SEEN] = _summed("counters_3", parts, before)[SEEN]
        arrays.counters_3[STEPS] = max(int(part["counters_3"][STEPS]) for part in parts)
        squares_2L = np.maximum(_summed("level_squares_2L", parts, before), 0.0)
        arrays.levels_2L[:] = _by_precision(
            "levels_2L",
            parts,
            before,
            [self._level_prior + part["level_squares_2L"] for part in parts],
            self._level_prior + squares_2L,
        )
        arrays.level_squares_2L[:] = squares_2L
        squares = max(float(_summed("bias_2", parts, before)[SQUARED_ERRORS]), 1.0)
        roots = [np.sqrt(part["bias_2"][SQUARED_ERRORS]) for part in parts]
        arrays.bias_2[BIAS] = _by_precision("bias_2", parts, before, roots, np.sqrt(squares))[BIAS]
        arrays.bias_2[SQUARED_ERRORS] = squares
        self.keep()


def _summed(name: str, parts: Sequence[Mapping[str, np.ndarray]], before: Mapping[str, np.ndarray]) -> np.ndarray:
    """What was there, and what each rank has added."""
    summed: np.ndarray = before[name] + sum(part[name] - before[name] for part in parts)
    return summed


def _by_precision(
    name: str,
    parts: Sequence[Mapping[str, np.ndarray]],
    before: Mapping[str, np.ndarray],
    precisions: Sequence[np.ndarray],
    merged: np.ndarray,
) -> np.ndarray:
    """What was there, and how far each rank has come, as it weighs."""
    moved = sum((part[name] - before[name]) * precision for part, precision in zip(parts, precisions, strict=True))
    moved_on: np.ndarray = before[name] + moved / merged
    return moved_on
