"""Scores of candidates -> lists.

Legend: V visits, C candidates of each, M candidates of all visits that there are, L places of a list.
"""

import numpy as np

from simulators.world.items import NONE


class Choice:
    """Chooses the best, or what is taken for them.

    Args:
        noise: standard deviation of what is added to each score.
        rng: of the noise.
    """

    def __init__(self, noise: float, rng: np.random.Generator) -> None:
        self._noise, self._rng = noise, rng

    def lists(self, slots_VC: np.ndarray, scores_M: np.ndarray, size: int) -> np.ndarray:
        """Lists, (V, L) slots, best first, of equals the one that was drawn first; `NONE` where there are fewer.

        Args:
            slots_VC: candidates, `NONE` where there is none.
            scores_M: of those that there are, visit by visit.
            size: L.
        """
        if self._noise:
            scores_M = scores_M + self._noise * self._rng.standard_normal(len(scores_M))
        scores_VC = np.full(slots_VC.shape, -np.inf, np.float32)
        scores_VC[slots_VC != NONE] = scores_M
        best_VL = np.argsort(-scores_VC, axis=1, kind="stable")[:, :size]
        lists_VL: np.ndarray = np.take_along_axis(slots_VC, best_VL, axis=1)
        return lists_VL
