"""Searches of a maximum that is only known by trying: both over the logarithms of weights, in generations.

Legend: P tried in a generation, T tasks.
"""

from collections.abc import Callable

import numpy as np

from learner.fusion.config import FusionSettings

Objective = Callable[[np.ndarray], float]


class CrossEntropy:
    """The cross-entropy method (de Boer et al., Annals of Operations Research 2005, section 5).

    A normal distribution is fitted to the best of what it gave.

    Args:
        settings: of the fusion.
        mean_T: where it begins.
    """

    def __init__(self, settings: FusionSettings, mean_T: np.ndarray) -> None:
        self._settings = settings
        self.mean_T = mean_T.copy()
        self._spread_T = np.full(len(mean_T), settings.spread)

    def generation(self, objective: Objective, rng: np.random.Generator) -> None:
        """Try a population, and move."""
        settings = self._settings
        tried_PT = self.mean_T + self._spread_T * rng.normal(size=(settings.population, len(self.mean_T)))
        rewards_P = _tried(objective, tried_PT)
        num_elite = max(2, round(settings.elite * settings.population))
        elite_ET = tried_PT[np.argsort(-rewards_P, kind="stable")[:num_elite]]
        self.mean_T = elite_ET.mean(0)
        self._spread_T = np.maximum(elite_ET.std(0), settings.least_spread)


class EvolutionStrategy:
    """Evolution strategies (Salimans et al., arXiv 1703.03864, algorithm 1).

    A step along the gradient of the mean reward under noise, estimated from mirrored samples by the ranks of their
    rewards. The noise shrinks by generations from `spread` to `least_spread`.

    Args:
        settings: of the fusion.
        mean_T: where it begins.
    """

    def __init__(self, settings: FusionSettings, mean_T: np.ndarray) -> None:
        self._settings = settings
        self.mean_T = mean_T.copy()
        self._spread = settings.spread
        self._shrink = (settings.least_spread / settings.spread) ** (1 / settings.generations)

    def generation(self, objective: Objective, rng: np.random.Generator) -> None:
        """Try a population, and move."""
        settings = self._settings
        half_PT = rng.normal(size=(settings.population // 2, len(self.mean_T)))
        noise_PT = np.concatenate([half_PT, -half_PT])
        rewards_P = _tried(objective, self.mean_T + self._spread * noise_PT)
        shaped_P = np.argsort(np.argsort(rewards_P, kind="stable"), kind="stable") / (len(rewards_P) - 1) - 0.5
        direction_T = (shaped_P[:, None] * noise_PT).mean(0)
        # A uniform utility of a linear reward makes a direction of length .28 at most: in spreads, one is `rate`.
        self.mean_T = self.mean_T + settings.rate * self._spread * direction_T / 0.28
        self._spread = max(self._spread * self._shrink, settings.least_spread)


def _tried(objective: Objective, tried_PT: np.ndarray) -> np.ndarray:
    """Rewards; one that is no number is the worst."""
    rewards_P = np.array([objective(tried_T) for tried_T in tried_PT])
    return np.where(np.isfinite(rewards_P), rewards_P, -np.inf)


SEARCHES: dict[str, type[CrossEntropy] | type[EvolutionStrategy]] = {"cem": CrossEntropy, "es": EvolutionStrategy}
