"""Several seeds as random effects, and how many users an effect needs."""

from collections.abc import Sequence
from itertools import accumulate
from math import ceil, sqrt
from statistics import NormalDist

from simulators.abtest.analysis.difference import Difference, Z, difference_of

_EXACT = 1e-9
"""A standard error below this is one of rounding: where nobody differs, as in the active days of a first day."""

# fmt: off
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on


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


def pooled_with_few(found: Sequence[Difference]) -> Difference:
    """The same where what differs between few runs is more than what is uncertain in each: Hartung and Knapp, 2001.

    The variance of the mean is that of the runs around it, and Student's t takes the place of the normal quantile; the
    interval is never narrower than that of `pooled`.

    >>> few = pooled_with_few([difference_of(0.1, 0.001), difference_of(0.2, 0.001), difference_of(0.3, 0.001)])
    >>> round(few.difference, 6), round(few.error, 4), round(few.low, 3)
    (0.2, 0.0577, -0.048)
    """
    mean = pooled(found)
    if len(found) == 1 or min(one.error for one in found) < _EXACT:
        return mean
    between = between_runs(found)
    weights = [1 / (one.error**2 + between) for one in found]
    around = sum(w * (one.difference - mean.difference) ** 2 for w, one in zip(weights, found, strict=True))
    error = sqrt(around / sum(weights) / (len(found) - 1))
    half = max(student(len(found) - 1) * error, Z * mean.error)
    value = mean.difference
    return Difference(value, value - half, value + half, max(error, mean.error))


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t, of degrees of freedom from 1; beyond the table, that of the last row.

    >>> student(4), student(1000)
    (2.776, 2.042)
    """
    return _STUDENT[min(freedom, len(_STUDENT)) - 1]


def between_runs(found: Sequence[Difference]) -> float:
    """Variance of the effects themselves, by moments; at least two runs."""
    weights = [1 / one.error**2 for one in found]
    total = sum(weights)
    mean = sum(w * one.difference for w, one in zip(weights, found, strict=True)) / total
    spread = sum(w * (one.difference - mean) ** 2 for w, one in zip(weights, found, strict=True))
    # total - sum(w^2) / total, as sums of what is positive: beside a run that is all but exact that would be 0.
    scale = 2 * sum(w * below for w, below in zip(weights[1:], accumulate(weights), strict=False)) / total
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
