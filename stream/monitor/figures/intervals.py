"""Figures of a bucket: metrics from histograms and sums, with 95 % intervals so that nobody reads noise as news."""

import math
from typing import Any

import msgspec
import numpy as np

from stream.monitor.figures.bucket import (
    ADAPTER,
    BENEFIT,
    BENEFIT_SQUARED,
    BENEFIT_WEIGHT,
    COUNT,
    ITEM_NORM,
    LOSS,
    LOSS_SQUARED,
    POSITIVE,
    PREDICTED,
    RANK_UAUC,
    REFERENCE_LOSS,
    UAUC,
    UAUC_WEIGHT,
    UNSEEN_ITEM,
    UNSEEN_USER,
    USER_NORM,
    WEIGHT,
)

_Z = 1.959964


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; None where there is too little to say."""

    value: float | None
    low: float | None = None
    high: float | None = None


_NONE = Estimate(None)


def _around(value: float, error: float) -> Estimate:
    return Estimate(value, value - _Z * error, value + _Z * error)


def histogram_auc(negative_K: np.ndarray, positive_K: np.ndarray) -> Estimate:
    """AUC of binned predictions; what shares a bin is a tie. Interval by Hanley and McNeil (1982).

    >>> histogram_auc(np.array([3., 1.]), np.array([1., 3.])).value
    0.75
    """
    # A late label takes its negative back, perhaps in a later bucket than the one that counted it.
    negative_K, positive_K = np.maximum(negative_K, 0.0), np.maximum(positive_K, 0.0)
    n, p = float(negative_K.sum()), float(positive_K.sum())
    if not n or not p:
        return _NONE
    below_K = np.cumsum(negative_K) - negative_K
    auc = float((positive_K * (below_K + negative_K / 2)).sum() / (n * p))
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (p - 1) * (q1 - auc * auc) + (n - 1) * (q2 - auc * auc)) / (n * p)
    half = _Z * math.sqrt(max(variance, 0.0))
    return Estimate(auc, max(auc - half, 0.0), min(auc + half, 1.0))


def wilson(positives: float, total: float) -> Estimate:
    """A share with Wilson's interval.

    >>> wilson(0, 0).value is None, round(wilson(5, 10).low, 3)
    (True, 0.237)
    """
    if total <= 0:
        return _NONE
    share = min(max(positives / total, 0.0), 1.0)
    middle = (share + _Z * _Z / (2 * total)) / (1 + _Z * _Z / total)
    half = _Z / (1 + _Z * _Z / total) * math.sqrt(share * (1 - share) / total + _Z * _Z / (4 * total * total))
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0))


def entropy(share: float) -> float:
    """Of a coin, in nats."""
    return -sum(x * math.log(x) for x in (share, 1 - share) if x > 0)


def bootstrapped(sums_R: np.ndarray, weights_R: np.ndarray) -> Estimate:
    """A mean over users' impressions, with the standard error of its replicates over users.

    Args:
        sums_R: the sum itself, then one per replicate.
        weights_R: the same of the weights.

    >>> estimate = bootstrapped(np.array([6., 5., 7., 6.]), np.array([10., 10., 10., 10.]))
    >>> estimate.value, round(estimate.high - estimate.value, 3)
    (0.6, 0.196)
    """
    if weights_R[0] <= 0:
        return _NONE
    value = float(sums_R[0] / weights_R[0])
    drawn = weights_R[1:] > 0
    if drawn.sum() < 2:
        return Estimate(value)
    return _around(value, float(np.std(sums_R[1:][drawn] / weights_R[1:][drawn], ddof=1)))


def mean_loss(sums_M: np.ndarray) -> Estimate:
    """Log-loss, nats.

    Args:
        sums_M: columns of `Bucket.sums_CM`, at least up to LOSS_SQUARED.
    """
    weight, count = float(sums_M[WEIGHT]), float(sums_M[COUNT])
    if weight <= 0:
        return _NONE
    loss = float(sums_M[LOSS]) / weight
    variance = max(float(sums_M[LOSS_SQUARED]) / weight - loss * loss, 0.0)
    return _around(loss, math.sqrt(variance / max(count, 1.0)))


def calibration(sums_M: np.ndarray) -> Estimate:
    """Sum of predictions over sum of labels; the interval is that of a Poisson count of positives.

    Args:
        sums_M: columns of `Bucket.sums_CM`, at least up to PREDICTED.
    """
    positives = float(sums_M[POSITIVE])
    if positives <= 0:
        return _NONE
    value = float(sums_M[PREDICTED]) / positives
    return Estimate(value, *(value * math.exp(sign * _Z / math.sqrt(positives)) for sign in (-1, 1)))


def _benefit(sums_M: np.ndarray, replicates_R5: np.ndarray | None = None) -> Estimate:
    """By how much the model's log-loss is lower than the reference's, on the same impressions, nats.

    Of two standard errors the larger one holds: that over users, whose impressions resemble each other, and that over
    impressions, which is the safer one where a cohort has few users. The former comes from a share of the users, and
    shrinks with the root of the impressions that the whole has more.
    """
    weight, count = float(sums_M[WEIGHT]), float(sums_M[COUNT])
    value = (float(sums_M[REFERENCE_LOSS]) - float(sums_M[LOSS])) / weight
    variance = max(float(sums_M[BENEFIT_SQUARED]) / weight - value * value, 0.0)
    error = math.sqrt(variance / max(count, 1.0))
    if replicates_R5 is None:
        return _around(value, error)
    by_user = bootstrapped(replicates_R5[:, BENEFIT], replicates_R5[:, BENEFIT_WEIGHT])
    if by_user.value is not None and by_user.high is not None:
        share = min(float(replicates_R5[0, BENEFIT_WEIGHT]) / weight, 1.0)
        error = max(error, (by_user.high - by_user.value) / _Z * math.sqrt(share))
    return _around(value, error)


def group_figures(sums_M: np.ndarray) -> dict[str, Any]:
    """What can be said of sums alone, without histograms and without replicates over users.

    Args:
        sums_M: columns of `Bucket.sums_CM`, at least up to BENEFIT_SQUARED.
    """
    weight, positives, count = float(sums_M[WEIGHT]), float(sums_M[POSITIVE]), float(sums_M[COUNT])
    # A kept negative may stand for others, but is one observation.
    rate = wilson(positives / weight * count, count) if weight > 0 else _NONE
    loss, ne = mean_loss(sums_M), _NONE
    constant = entropy(rate.value) if rate.value is not None else 0.0
    if loss.value is not None and loss.low is not None and loss.high is not None and constant > 0:
        ne = Estimate(loss.value / constant, loss.low / constant, loss.high / constant)
    return {
        "samples": round(count),
        "positives": round(positives),
        "rate": rate,
        "log_loss": loss,
        "ne": ne,
        "calibration": calibration(sums_M),
        "benefit": _benefit(sums_M) if loss.value is not None else _NONE,
    }


def figures(histogram_2_2K: np.ndarray, sums_M: np.ndarray, replicates_R5: np.ndarray) -> dict[str, Any]:
    """Every figure of one cohort, or of several added up.

    Args:
        histogram_2_2K: [model or reference, label, bin], shape (2, 2, K).
        sums_M: columns of `Bucket.sums_CM`.
        replicates_R5: columns of `Bucket.replicates_CR5`.
    """
    count = float(sums_M[COUNT])
    found: dict[str, Any] = {
        **group_figures(sums_M),
        "auc": histogram_auc(*histogram_2_2K[0]),
        "uauc": bootstrapped(replicates_R5[:, UAUC], replicates_R5[:, UAUC_WEIGHT]),
        "rank_uauc": bootstrapped(replicates_R5[:, RANK_UAUC], replicates_R5[:, UAUC_WEIGHT]),
        "reference_auc": histogram_auc(*histogram_2_2K[1]),
    }
    if found["log_loss"].value is not None:
        found["benefit"] = _benefit(sums_M, replicates_R5)
    if count > 0:
        for name, column in (
            ("unseen_users", UNSEEN_USER),
            ("unseen_items", UNSEEN_ITEM),
            ("user_norm", USER_NORM),
            ("item_norm", ITEM_NORM),
        ):
            found[name] = float(sums_M[column]) / count
        found["weights"] = (sums_M[ADAPTER:] / count).tolist()
    return found
