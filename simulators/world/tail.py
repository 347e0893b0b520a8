"""Long tails."""

from functools import cache
from statistics import NormalDist

import numpy as np

from simulators.world.parameters import Tail


def draw_tail(tail: Tail, rng: np.random.Generator, size: int) -> np.ndarray:
    """Values with a mean of 1 in the long run, (size,) float64."""
    z_N = np.minimum(rng.standard_normal(size), tail.cap)
    values_N: np.ndarray = np.exp(tail.sigma * z_N) / _mean(tail.sigma, tail.cap)
    return values_N


def standard_of(tail: Tail, values_N: np.ndarray) -> np.ndarray:
    """The z of values that were drawn; zeros where the tail has no spread."""
    if not tail.sigma:
        return np.zeros_like(values_N)
    z_N: np.ndarray = (np.log(values_N) + np.log(_mean(tail.sigma, tail.cap))) / tail.sigma
    return z_N


@cache
def _mean(sigma: float, cap: float) -> float:
    """Mean of exp(sigma min(z, cap)), by quadrature over z."""
    z_N = np.linspace(-12.0, 12.0, 48_001)
    density_N = np.exp(-0.5 * z_N**2) / np.sqrt(2 * np.pi)
    return float(np.sum(np.exp(sigma * np.minimum(z_N, cap)) * density_N) * (z_N[1] - z_N[0]))


def top_share(tail: Tail, top: float = 0.05) -> float:
    """What the greatest `top` of a tail have of the whole, in the long run.

    >>> round(top_share(Tail(0.0)), 3), round(top_share(Tail(3.0)), 2)
    (0.05, 0.86)
    """
    z_N = np.linspace(-12.0, 12.0, 48_001)
    weight_N = np.exp(tail.sigma * np.minimum(z_N, tail.cap) - 0.5 * z_N**2)
    return float(weight_N[z_N >= NormalDist().inv_cdf(1 - top)].sum() / weight_N.sum())


def share_of_top(counts_N: np.ndarray, top: float = 0.05) -> float:
    """What the greatest `top` of the counts are of their sum.

    >>> share_of_top(np.array([8, 1, 1, 0] * 5))
    0.16
    """
    sorted_N = np.sort(counts_N)[::-1]
    return float(sorted_N[: max(1, round(len(sorted_N) * top))].sum() / sorted_N.sum())
