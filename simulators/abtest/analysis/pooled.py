"""Several seeds as random effects, and how many users an effect needs."""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

from simulators.abtest.analysis.difference import Difference, Z, difference_of

_EXACT = 1e-9
"""A standard error below this is one of rounding: where nobody differs, as in the active days of a first day."""


def pooled(found: Sequence[Difference]) -> Difference:
    """Mean effect over runs whose own effects may differ (DerSimonian and Laird, 1986).

    >>> both = pooled([difference_of(0.1, 0.1), difference_of(0.3, 0.1)])
    >>> round(both.difference, 6), round(both.error, 6)
    (0.2, 0.1)
    >>> pooled([difference_of(0.1, 1e-17), difference_of(0.3, 0.1)]).difference
    0.2
    """
    variances = [one.error**2 for one in found]
    if len(found) == 1 or min(variances) < _EXACT**2:
        value = sum(one.difference for one in found) / len(found)
        return difference_of(value, sqrt(sum(variances)) / len(found))
    between = between_runs(found)
    weights = [1 / (v + between) for v in variances]
    value = sum(w * one.difference for w, one in zip(weights, found, strict=True)) / sum(weights)
    return difference_of(value, 1 / sqrt(sum(weights)))


def between_runs(found: Sequence[Difference]) -> float:
    """Variance of the effects themselves, by moments; at least two runs."""
    weights = [1 / one.error**2 for one in found]
    total = sum(weights)
    mean = sum(w * one.difference for w, one in zip(weights, found, strict=True)) / total
    spread = sum(w * (one.difference - mean) ** 2 for w, one in zip(weights, found, strict=True))
    scale = total - sum(w * w for w in weights) / total
    return max(0.0, (spread - (len(found) - 1)) / scale)


def power_of(error: float, effect: float) -> float:
    """Probability of finding an effect at a level of 5 %.

    Args:
        error: standard error of a relative difference.
        effect: relative, as 0.01.

    >>> round(power_of(0.01, 0.028), 2), round(power_of(0.01, 0.0), 2)
    (0.8, 0.05)
    """
    if not error:
        return 1.0 if effect else 0.0
    normal, z = NormalDist(), effect / error
    return normal.cdf(z - Z) + normal.cdf(-z - Z)


def users_needed(error: float, users: int, effect: float, power: float = 0.8) -> int:
    """Users of both arms together that an effect needs, to be found with a certain power at a level of 5 %.

    Args:
        error: standard error of a relative difference as it was seen.
        users: of both arms together, that it was seen with.
        effect: relative, as 0.01.
        power: probability of finding it.

    >>> users_needed(0.01, 1000, 0.01)
    7849
    """
    needed = (Z + NormalDist().inv_cdf(power)) * error / effect
    return ceil(users * needed**2)
