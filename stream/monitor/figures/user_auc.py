"""UAUC of a stream: each impression against the same user's recent ones of the other label.

The exact UAUC (AdaF2M2, section 4.1) needs all of a user's impressions at once. Here an impression counts with the
share of the user's last impressions of the other label that the model ranks on the right side of it. The mean over
impressions estimates the same thing, weighs a user by its impressions, too, and is a sum that cohorts and buckets can
hold.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque

import numpy as np

_KEPT = 16
"""Impressions kept per user and label."""
_MAX_USERS = 50_000


class _Recent:
    """A user's recent impressions of one label, in the order of their predictions."""

    def __init__(self) -> None:
        self._predictions: list[float] = []
        self._weights: list[float] = []
        self._is_plain = True
        """Whether each has stood for one impression so far; then they need only be counted."""
        self._arrived: deque[float] = deque()

    def add(self, prediction: float, weight: float) -> None:
        if len(self._arrived) == _KEPT:
            self._drop(self._arrived.popleft())
        at = bisect_right(self._predictions, prediction)
        self._predictions.insert(at, prediction)
        self._weights.insert(at, weight)
        self._is_plain = self._is_plain and weight == 1.0
        self._arrived.append(prediction)

    def remove(self, prediction: float) -> bool:
        """Whether there was one."""
        if not self._drop(prediction):
            return False
        self._arrived.remove(prediction)
        return True

    def _drop(self, prediction: float) -> bool:
        at = bisect_left(self._predictions, prediction)
        if at == len(self._predictions) or self._predictions[at] != prediction:
            return False
        del self._predictions[at], self._weights[at]
        return True

    def share_below(self, prediction: float) -> float:
        """Weighted share of them that are below a prediction, ties half; -1 if there are none."""
        if not self._weights:
            return -1.0
        first = bisect_left(self._predictions, prediction)
        last = bisect_right(self._predictions, prediction, first)
        if self._is_plain:
            return (first + last) / 2 / len(self._weights)
        below, tied = sum(self._weights[:first]), sum(self._weights[first:last])
        return (below + tied / 2) / sum(self._weights)


class UserAuc:
    """Remembers users' recent predictions.

    >>> auc = UserAuc()
    >>> auc.update(np.array([7, 7, 8, 7]), np.array([.2, .9, .5, .3]), np.array([0, 1, 1, 0]), np.ones(4)).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(self) -> None:
        self._users: OrderedDict[int, tuple[_Recent, _Recent]] = OrderedDict()

    def update(
        self, users_N: np.ndarray, predictions_N: np.ndarray, labels_N: np.ndarray, weights_N: np.ndarray
    ) -> np.ndarray:
        """Take impressions in, oldest first.

        Args:
            users_N: a number per user.
            predictions_N: made before learning; finite.
            labels_N: 0 or 1.
            weights_N: how many impressions each stands for.

        Returns:
            per impression, the weighted share of the user's others that are ranked right, ties half; -1 where there is
            no other to compare with. Shape (N,).
        """
        shares: list[float] = []
        rows = zip(users_N.tolist(), predictions_N.tolist(), labels_N.tolist(), weights_N.tolist(), strict=True)
        for user, prediction, label, weight in rows:
            negatives, positives = self._recent(user)
            if label > 0:
                shares.append(negatives.share_below(prediction))
                positives.add(prediction, weight)
            else:
                below = positives.share_below(prediction)
                shares.append(1.0 - below if below >= 0 else below)
                negatives.add(prediction, weight)
        while len(self._users) > _MAX_USERS:
            self._users.popitem(last=False)
        return np.array(shares)

    def turn(self, user: int, prediction: float) -> None:
        """A negative of a user has become a positive."""
        negatives, positives = self._recent(user)
        if negatives.remove(prediction):
            positives.add(prediction, 1.0)

    def _recent(self, user: int) -> tuple[_Recent, _Recent]:
        """A user's negatives and positives."""
        held = self._users.get(user)
        if held is None:
            held = self._users[user] = _Recent(), _Recent()
        else:
            self._users.move_to_end(user)
        return held
