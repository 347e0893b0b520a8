"""Relative differences of means, with intervals.

The delta method for a ratio of independent means (Deng, Knoblich, Lu, KDD 2018), CUPED for the variance that was there
before (Deng, Xu, Kohavi, Walker, WSDM 2013), and a chi-square test whether users were split as was meant.
"""

from math import erfc, sqrt
from statistics import NormalDist

import msgspec
import numpy as np

Z = NormalDist().inv_cdf(0.975)
"""Of 95 % intervals."""


class Difference(msgspec.Struct, frozen=True):
    """Of an arm's mean to the first arm's: mean / mean - 1."""

    difference: float
    low: float
    """95 % interval."""
    high: float
    error: float
    """Standard error."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does."""
        return self.low > 0 or self.high < 0


def difference_of(value: float, error: float, z: float = Z) -> Difference:
    """With its interval."""
    return Difference(value, value - z * error, value + z * error, error)


def relative_difference(first_U: np.ndarray, second_U: np.ndarray) -> Difference | None:
    """Of the second group's mean to the first's; None where a group has fewer than two users, or the first a mean of 0.

    >>> found = relative_difference(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    >>> round(found.difference, 6), round(found.error, 6)
    (0.5, 0.901388)
    """
    if min(len(first_U), len(second_U)) < 2 or not first_U.mean():
        return None
    base, mean = first_U.mean(), second_U.mean()
    var_base, var_mean = first_U.var(ddof=1) / len(first_U), second_U.var(ddof=1) / len(second_U)
    error = sqrt(var_mean / base**2 + mean**2 * var_base / base**4)
    return difference_of(float(mean / base - 1), float(error))


def paired_difference(first_U: np.ndarray, second_U: np.ndarray) -> Difference | None:
    """Of the means of two figures of the same users, absolute; None of fewer than two users.

    >>> found = paired_difference(np.array([1.0, 3.0]), np.array([1.0, 4.0]))
    >>> found.difference, found.error
    (0.5, 0.5)
    """
    if len(first_U) < 2:
        return None
    gains_U = second_U - first_U
    return difference_of(float(gains_U.mean()), float(gains_U.std(ddof=1) / sqrt(len(gains_U))))


def adjusted(values_U: np.ndarray, before_U: np.ndarray) -> np.ndarray:
    """CUPED: values less what the time before foretells of them; the mean over all stays.

    >>> adjusted(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    array([2., 2., 2.])
    """
    if len(values_U) < 3 or not before_U.var():
        return values_U
    centred_U = before_U - before_U.mean()
    slope = (centred_U @ values_U) / (centred_U @ centred_U)
    rest_U: np.ndarray = values_U - slope * centred_U
    return rest_U


def capped(values_U: np.ndarray, share: float) -> np.ndarray:
    """Values with none above the quantile `share` of all: with long tails, a mean is else that of a few users.

    >>> capped(np.array([1.0, 2.0, 9.0]), 0.5)
    array([1., 2., 2.])
    """
    return np.minimum(values_U, np.quantile(values_U, share)) if len(values_U) and share < 1 else values_U


def mismatch(first: int, second: int) -> float:
    """p-value of a split as uneven as this, where both arms were to get as many users.

    >>> round(mismatch(5000, 5200), 4)
    0.0477
    """
    if not first + second:
        return 1.0
    return erfc(sqrt((first - second) ** 2 / (first + second) / 2))
