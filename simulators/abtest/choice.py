"""Scores of candidates -> lists, and how good lists are of what could have been.

Legend: V visits, C candidates of each, M candidates of all visits that there are, L places of a list.
"""

import numpy as np

from simulators.world.items import NONE
from simulators.world.world import Visits, World


class Choice:
    """Chooses the best, or what is taken for them.

    Args:
        noise: standard deviation of what is added to each score.
        rng: of the noise.
    """

    def __init__(self, noise: float, rng: np.random.Generator) -> None:
        self._noise, self._rng = noise, rng

    def judged(self, scores_M: np.ndarray) -> np.ndarray:
        """Scores by which it chooses, (M,)."""
        if self._noise:
            scores_M = scores_M + self._noise * self._rng.standard_normal(len(scores_M))
        return scores_M

    def lists(self, slots_VC: np.ndarray, scores_M: np.ndarray, size: int) -> np.ndarray:
        """Lists by a side's scores, (V, L) slots; see `best`."""
        return best(slots_VC, self.judged(scores_M), size)


def best(slots_VC: np.ndarray, scores_M: np.ndarray, size: int) -> np.ndarray:
    """Lists, (V, L) slots, best first, of equals the one that was drawn first; `NONE` where there are fewer.

    Args:
        slots_VC: candidates, `NONE` where there is none.
        scores_M: of those that there are, visit by visit.
        size: L.
    """
    lists_VL: np.ndarray = np.take_along_axis(slots_VC, places(spread(slots_VC, scores_M), size), axis=1)
    return lists_VL


def spread(slots_VC: np.ndarray, values_M: np.ndarray) -> np.ndarray:
    """Values of the candidates that there are, (V, C) float32; minus infinity where there is none."""
    values_VC = np.full(slots_VC.shape, -np.inf, np.float32)
    values_VC[slots_VC != NONE] = values_M
    return values_VC


def places(scores_VC: np.ndarray, size: int) -> np.ndarray:
    """Columns of the greatest, (V, L), the greatest first, of equals the one farther left."""
    return np.argsort(-scores_VC, axis=1, kind="stable")[:, :size]


def reach(world: World, visits: Visits, slots_VC: np.ndarray, lists_VL: np.ndarray) -> np.ndarray:
    """How far each list reaches, (V,): 0 as good as candidates at random, 1 as good as the best of them.

    By the probability of a click where an item is looked at, mean over a list. Unlike what users do, it has no luck in
    it, and hardly depends on who they are: it shows with few of them what ranking is worth. 1 where there is no choice.

    Args:
        world: which knows.
        visits: of the last step.
        slots_VC: candidates, `NONE` where there is none.
        lists_VL: shown, `NONE` where a list is shorter.
    """
    return reach_of(clicks(world, visits, slots_VC), clicks(world, visits, lists_VL))


def reach_of(clicks_VC: np.ndarray, clicks_VL: np.ndarray) -> np.ndarray:
    """The same, of the probabilities of clicks of candidates and of what is shown; minus infinity where none is."""
    size_V = np.isfinite(clicks_VL).sum(axis=1)
    best_VL = -np.sort(-clicks_VC, axis=1)[:, : clicks_VL.shape[1]]
    best_VL = np.where(np.arange(best_VL.shape[1]) < size_V[:, None], best_VL, -np.inf)
    shown_V, best_V, any_V = _mean(clicks_VL), _mean(best_VL), _mean(clicks_VC)
    gain_V = best_V - any_V
    reach_V: np.ndarray = np.divide(shown_V - any_V, gain_V, out=np.ones_like(gain_V), where=gain_V > 1e-6)
    return reach_V


def clicks(world: World, visits: Visits, slots_VK: np.ndarray) -> np.ndarray:
    """Probability of a click where it is looked at, (V, K); minus infinity where there is nothing."""
    place_N, column_N = np.nonzero(slots_VK != NONE)
    clicks_VK = np.full(slots_VK.shape, -np.inf)
    clicks_VK[place_N, column_N] = world.click(visits.slot_V[place_N], slots_VK[place_N, column_N])
    return clicks_VK


def _mean(clicks_VK: np.ndarray) -> np.ndarray:
    """Of those that there are."""
    is_there_VK = np.isfinite(clicks_VK)
    mean_V: np.ndarray = np.where(is_there_VK, clicks_VK, 0.0).sum(axis=1) / np.maximum(is_there_VK.sum(axis=1), 1)
    return mean_V
