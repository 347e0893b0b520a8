"""UAUC of a stream: each impression against the same user's recent ones of the other label.

The exact UAUC (AdaF2M2, section 4.1) needs all of a user's impressions at once. Here an impression counts with the
share of the user's last impressions of the other label that the model ranks on the right side of it. The mean over
impressions estimates the same thing, weighs a user by its impressions, too, and is a sum that cohorts and buckets can
hold.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

import numpy as np

_KEPT = 16
"""Impressions kept per user and label."""
_MAX_USERS = 50_000


class UserAuc:
    """Remembers users' recent predictions.

    >>> auc = UserAuc()
    >>> auc.update(np.array([7, 7, 8, 7]), np.array([.2, .9, .5, .3]), np.array([0, 1, 1, 0]), np.ones(4)).tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(self) -> None:
        self._users: OrderedDict[int, tuple[deque[tuple[float, float]], deque[tuple[float, float]]]] = OrderedDict()

    def update(
        self, users_N: np.ndarray, predictions_N: np.ndarray, labels_N: np.ndarray, weights_N: np.ndarray
    ) -> np.ndarray:
        """Take impressions in, oldest first.

        Args:
            users_N: a number per user.
            predictions_N: made before learning.
            labels_N: 0 or 1.
            weights_N: how many impressions each stands for.

        Returns:
            per impression, the weighted share of the user's others that are ranked right, ties half; -1 where there is
            no other to compare with. Shape (N,).
        """
        shares: list[float] = []
        rows = zip(users_N.tolist(), predictions_N.tolist(), labels_N.tolist(), weights_N.tolist(), strict=True)
        for user, prediction, label, weight in rows:
            held = self._recent(user)
            shares.append(_share(held[1 - int(label)], prediction, positive=label > 0))
            held[int(label)].append((prediction, weight))
        while len(self._users) > _MAX_USERS:
            self._users.popitem(last=False)
        return np.array(shares)

    def turn(self, user: int, prediction: float) -> None:
        """A negative of a user has become a positive."""
        negatives, positives = self._recent(user)
        for held in negatives:
            if held[0] == prediction:
                negatives.remove(held)
                positives.append((prediction, 1.0))
                return

    def _recent(self, user: int) -> tuple[deque[tuple[float, float]], deque[tuple[float, float]]]:
        """Predictions and weights of a user's negatives and positives."""
        held = self._users.get(user)
        if held is None:
            held = self._users[user] = deque(maxlen=_KEPT), deque(maxlen=_KEPT)
        else:
            self._users.move_to_end(user)
        return held


def _share(others: Iterable[tuple[float, float]], prediction: float, *, positive: bool) -> float:
    below = tied = total = 0.0
    for other, weight in others:
        total += weight
        if other < prediction:
            below += weight
        elif other == prediction:
            tied += weight
    if not total:
        return -1.0
    above_half = (below + tied / 2) / total
    return above_half if positive else 1.0 - above_half
