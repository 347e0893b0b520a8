"""Metrics of binary predictions; exact ones over arrays, and a constant-memory AUC for a running stream.

All take `labels` in {0, 1} and `predictions` in (0, 1), NumPy arrays of equal length.
"""

import numpy as np

_EPS = 1e-7


def auc(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Area under the ROC curve; ties count one half. NaN if only one class is there.

    >>> auc(np.array([0, 1, 0, 1]), np.array([.1, .4, .4, .9]))
    0.875
    """
    positive = labels > 0
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0:
        return float("nan")
    order = np.argsort(predictions, kind="stable")
    ranked = predictions[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ends = np.concatenate([starts[1:], [len(ranked)]])
    mean_rank = np.repeat((starts + 1 + ends) / 2, ends - starts)
    rank_sum = mean_rank[positive[order]].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def uauc(labels: np.ndarray, predictions: np.ndarray, users: np.ndarray) -> float:
    """AUC within each user, weighted by the user's samples (AdaF2M2, section 4.1); users of one class have none.

    >>> uauc(np.array([0, 1, 1, 0]), np.array([.1, .2, .1, .2]), np.array([7, 7, 8, 8]))
    0.5
    """
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    total, weight = 0.0, 0
    for group in np.split(order, bounds):
        value = auc(labels[group], predictions[group])
        if not np.isnan(value):
            total += value * len(group)
            weight += len(group)
    return total / weight if weight else float("nan")


def log_loss(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean binary cross-entropy, in nats.

    >>> round(log_loss(np.array([1, 0]), np.array([.5, .5])), 4)
    0.6931
    """
    p = np.clip(predictions.astype(np.float64), _EPS, 1 - _EPS)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p)))) if len(p) else float("nan")


def normalised_entropy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """NE: log-loss over that of always predicting the base rate (He et al. 2014); below 1 is better than a constant.

    >>> round(normalised_entropy(np.array([1, 0]), np.array([.5, .5])), 4)
    1.0
    """
    if not len(labels) or labels.min() == labels.max():
        return float("nan")
    base = np.full(len(labels), labels.mean(dtype=np.float64))
    return log_loss(labels, predictions) / log_loss(labels, base)


def calibration(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Sum of predictions over sum of labels; 1 is calibrated.

    >>> float(round(calibration(np.array([1, 0]), np.array([.6, .6])), 2))
    1.2
    """
    positives = labels.sum(dtype=np.float64)
    return float(predictions.sum(dtype=np.float64) / positives) if positives else float("nan")


def summarise(labels: np.ndarray, predictions: np.ndarray, users: np.ndarray) -> dict[str, float | int]:
    """Every metric, with the number of samples and the base rate."""
    return {
        "samples": len(labels),
        "base_rate": float(labels.mean()) if len(labels) else float("nan"),
        "auc": auc(labels, predictions),
        "uauc": uauc(labels, predictions, users),
        "log_loss": log_loss(labels, predictions),
        "ne": normalised_entropy(labels, predictions),
        "calibration": calibration(labels, predictions),
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
        self._count = 0

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Take predictions in, oldest first."""
        size = len(self._labels)
        at = (self._count + np.arange(len(labels))) % size
        self._labels[at] = labels
        self._predictions[at] = predictions
        self._count += len(labels)

    def compute(self) -> dict[str, float]:
        """The metrics now."""
        n = min(self._count, len(self._labels))
        labels, predictions = self._labels[:n], self._predictions[:n]
        return {
            "auc": auc(labels, predictions),
            "log_loss": log_loss(labels, predictions),
            "calibration": calibration(labels, predictions),
        }
