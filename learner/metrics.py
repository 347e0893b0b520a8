"""Metrics of binary predictions; exact ones over arrays, and a constant-memory AUC for a running stream.

All take `labels` in {0, 1} and `predictions` in (0, 1), NumPy arrays of equal length; and `weights`, one for each,
where a sample stands for others that were dropped.
"""

import numpy as np

_EPS = 1e-7


def sampling_weights(labels: np.ndarray, negative_rates: np.ndarray) -> np.ndarray:
    """How many impressions each sample stands for: a negative that was kept with probability r, for 1/r.

    >>> sampling_weights(np.array([1, 0, 0]), np.array([.25, .25, 1.0])).tolist()
    [1.0, 4.0, 1.0]
    """
    weights: np.ndarray = np.where(labels > 0, 1.0, 1.0 / negative_rates)
    return weights


def auc(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve; ties count one half. NaN if only one class is there.

    >>> auc(np.array([0, 1, 0, 1]), np.array([.1, .4, .4, .9]))
    0.875
    >>> auc(np.array([0, 1, 0, 1]), np.array([.1, .4, .4, .9]), np.array([3, 1, 1, 1]))
    0.9375
    """
    order = np.argsort(predictions, kind="stable")
    ranked, is_positive = predictions[order], labels[order] > 0
    mass = np.ones(len(order)) if weights is None else weights[order].astype(np.float64)
    positives, negatives = np.where(is_positive, mass, 0.0), np.where(is_positive, 0.0, mass)
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        return float("nan")
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    tied = np.add.reduceat(negatives, starts)
    below = np.cumsum(tied) - tied
    return float((np.add.reduceat(positives, starts) * (below + tied / 2)).sum() / pairs)


def uauc(labels: np.ndarray, predictions: np.ndarray, users: np.ndarray, weights: np.ndarray | None = None) -> float:
    """AUC within each user, weighted by the user's samples (AdaF2M2, section 4.1); users of one class have none.

    >>> uauc(np.array([0, 1, 1, 0]), np.array([.1, .2, .1, .2]), np.array([7, 7, 8, 8]))
    0.5
    """
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    total = weight = 0.0
    for group in np.split(order, bounds):
        of_group = None if weights is None else weights[group]
        value = auc(labels[group], predictions[group], of_group)
        if not np.isnan(value):
            size = len(group) if of_group is None else float(of_group.sum())
            total += value * size
            weight += size
    return total / weight if weight else float("nan")


def log_loss(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean binary cross-entropy, in nats.

    >>> round(log_loss(np.array([1, 0]), np.array([.5, .5])), 4)
    0.6931
    """
    if not len(labels):
        return float("nan")
    p = np.clip(predictions.astype(np.float64), _EPS, 1 - _EPS)
    return float(-np.average(np.where(labels > 0, np.log(p), np.log1p(-p)), weights=weights))


def normalised_entropy(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """NE: log-loss over that of always predicting the base rate (He et al. 2014); below 1 is better than a constant.

    >>> round(normalised_entropy(np.array([1, 0]), np.array([.5, .5])), 4)
    1.0
    """
    if not len(labels) or labels.min() == labels.max():
        return float("nan")
    base = np.full(len(labels), np.average(labels.astype(np.float64), weights=weights))
    return log_loss(labels, predictions, weights) / log_loss(labels, base, weights)


def calibration(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Sum of predictions over sum of labels; 1 is calibrated.

    >>> float(round(calibration(np.array([1, 0]), np.array([.6, .6])), 2))
    1.2
    """
    positives = labels.sum(dtype=np.float64)
    mass = predictions if weights is None else predictions * weights
    return float(mass.sum(dtype=np.float64) / positives) if positives else float("nan")


def summarise(
    labels: np.ndarray, predictions: np.ndarray, users: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float | int]:
    """Every metric, with the number of samples and the base rate."""
    return {
        "samples": len(labels),
        "base_rate": float(np.average(labels, weights=weights)) if len(labels) else float("nan"),
        "auc": auc(labels, predictions, weights),
        "uauc": uauc(labels, predictions, users, weights),
        "log_loss": log_loss(labels, predictions, weights),
        "ne": normalised_entropy(labels, predictions, weights),
        "calibration": calibration(labels, predictions, weights),
    }


class RecentAuc:
    """AUC and log-loss over the last `size` predictions of a stream.

    >>> recent = RecentAuc(2)
    >>> recent.update(np.array([1, 0, 1]), np.array([.1, .2, .9]))
    >>> recent.compute()["auc"]
    1.0
    """

    def __init__(self, size: int = 20_000) -> None:
        self._labels = np.zeros(size, np.float32)
        self._predictions = np.zeros(size, np.float32)
        self._weights = np.ones(size, np.float32)
        self._count = 0

    def update(self, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take predictions in, oldest first."""
        size = len(self._labels)
        at = (self._count + np.arange(len(labels))) % size
        self._labels[at] = labels
        self._predictions[at] = predictions
        self._weights[at] = 1.0 if weights is None else weights
        self._count += len(labels)

    def compute(self) -> dict[str, float]:
        """The metrics now."""
        n = min(self._count, len(self._labels))
        labels, predictions, weights = self._labels[:n], self._predictions[:n], self._weights[:n]
        return {
            "auc": auc(labels, predictions, weights),
            "log_loss": log_loss(labels, predictions, weights),
            "calibration": calibration(labels, predictions, weights),
        }
