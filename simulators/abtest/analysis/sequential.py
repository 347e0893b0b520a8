"""Boundaries for looking at a test while it runs: each look spends a part of the level, O'Brien-Fleming's way.

Lan and DeMets, Biometrika 1983; the probability of not having crossed yet is integrated look by look (Armitage,
McPherson, Rowe, 1969).
"""

from math import sqrt
from statistics import NormalDist

import numpy as np

_NORMAL = NormalDist()
_POINTS = 801


def spent(share: float, level: float = 0.05) -> float:
    """Level that is spent when a share of the information is there, a half of it on either side.

    >>> round(spent(1.0), 6)
    0.05
    """
    return 4 * _NORMAL.cdf(_NORMAL.inv_cdf(level / 4) / sqrt(share))


def boundaries(num_looks: int, level: float = 0.05) -> list[float]:
    """By look, which |z| has to be exceeded; looks are equally far apart, two-sided.

    Args:
        num_looks: planned.
        level: of the whole test.
    """
    found: list[float] = []
    density_G, points_G = np.ones(1), np.zeros(1)
    for look in range(1, num_looks + 1):
        to_spend = spent(look / num_looks, level) - (spent((look - 1) / num_looks, level) if look > 1 else 0.0)
        bound = _bound(density_G, points_G, to_spend)
        found.append(bound / sqrt(look))
        grid_G = np.linspace(-bound, bound, _POINTS)
        density_G, points_G = _carried(density_G, points_G, grid_G), grid_G
    return found


def _bound(density_G: np.ndarray, points_G: np.ndarray, to_spend: float) -> float:
    """The value of the sum beyond which the next look lies with a given probability."""
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        beyond_G = _tail(middle - points_G) + _tail(middle + points_G)
        low, high = (middle, high) if _integral(density_G * beyond_G, points_G) > to_spend else (low, middle)
    return high


def _carried(density_G: np.ndarray, points_G: np.ndarray, grid_H: np.ndarray) -> np.ndarray:
    """Density of the next sum, where nothing was crossed before."""
    step_GH = np.exp(-0.5 * (grid_H[None, :] - points_G[:, None]) ** 2) / sqrt(2 * np.pi)
    next_H: np.ndarray = _integral(density_G[:, None] * step_GH, points_G)
    return next_H


def _integral(values_G: np.ndarray, points_G: np.ndarray) -> np.ndarray:
    whole: np.ndarray = values_G[0] if len(points_G) == 1 else np.trapezoid(values_G, points_G, axis=0)
    return whole


def _tail(z_G: np.ndarray) -> np.ndarray:
    return np.array([_NORMAL.cdf(-z) for z in np.atleast_1d(z_G)])
