"""What each user did, before the test and in it.

Legend: U users by their number, M metrics, N impressions.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from simulators.abtest.paired import Pairs
from simulators.world.parameters import Outcome
from simulators.world.world import Impressions

_DAY_MS = 86_400_000
ACTIVE_DAYS, DURATION, IMPRESSIONS = "active_days", "duration", "impressions"
REACH = "reach"
"""Mean over a user's lists of how far they reach (`simulators/abtest/choice.py`)."""


class Period(IntEnum):
    """When."""

    BEFORE = 0
    TEST = 1


class Tally:
    """Sums by user; what comes of an impression counts when it is shown.

    Args:
        outcomes: of the world; the seconds of those with a value are the duration.
        pairs: what either arm would have shown, where both rank every visit.
    """

    def __init__(self, outcomes: Sequence[Outcome], pairs: Pairs | None = None) -> None:
        self.pairs = pairs
        self._counted = [o for o, outcome in enumerate(outcomes) if not outcome.value]
        self._valued = [o for o, outcome in enumerate(outcomes) if outcome.value]
        self.metrics = (ACTIVE_DAYS, DURATION, IMPRESSIONS, *(outcomes[o].name for o in self._counted), REACH)
        self._lists_PU = np.zeros((len(Period), 0))
        self._sums_PUM = np.zeros((len(Period), 0, len(self.metrics)))
        self._last_day_U = np.zeros(0, np.int64)
        self.arm_U = np.zeros(0, np.int8)
        """-1 of those who were in no arm."""

    def of(self, period: Period) -> np.ndarray:
        """Sums, and of how far lists reach the mean, (U, M)."""
        sums_UM: np.ndarray = self._sums_PUM[period].copy()
        sums_UM[:, -1] /= np.maximum(self._lists_PU[period], 1)
        return sums_UM

    def assign(self, users_N: np.ndarray, arms_N: np.ndarray) -> None:
        """Note which arm users are in."""
        self._grow(int(users_N.max(initial=-1)) + 1)
        self.arm_U[users_N] = arms_N

    def judge(self, users_V: np.ndarray, reach_V: np.ndarray, period: Period) -> None:
        """Note how far the lists of V visits reach."""
        self._grow(int(users_V.max(initial=-1)) + 1)
        np.add.at(self._sums_PUM[period][:, -1], users_V, reach_V)
        np.add.at(self._lists_PU[period], users_V, 1)

    def update(self, shown: Impressions, period: Period) -> None:
        """Count what was shown in a stretch of time; stretches come in order."""
        if not len(shown):
            return
        if self.pairs is not None:
            self.pairs.update(shown)
        self._grow(int(shown.user_N.max()) + 1)
        sums_UM, reactions = self._sums_PUM[period], shown.reactions
        users_S, of_user_N = np.unique(shown.user_N, return_inverse=True)

        def summed(values_N: np.ndarray) -> np.ndarray:
            return np.bincount(of_user_N, values_N, len(users_S))

        day = int(shown.ts_N[0]) // _DAY_MS
        sums_UM[users_S, 0] += self._last_day_U[users_S] != day
        self._last_day_U[users_S] = day
        sums_UM[users_S, 1] += summed(reactions.value_NO[:, self._valued].sum(axis=1))
        sums_UM[users_S, 2] += np.bincount(of_user_N, minlength=len(users_S))
        for m, o in enumerate(self._counted, start=3):
            sums_UM[users_S, m] += summed(reactions.happened_NO[:, o])

    def _grow(self, size: int) -> None:
        more = size - len(self.arm_U)
        if more > 0:
            more += size // 4
            self._sums_PUM = np.pad(self._sums_PUM, ((0, 0), (0, more), (0, 0)))
            self._lists_PU = np.pad(self._lists_PU, ((0, 0), (0, more)))
            self._last_day_U = np.pad(self._last_day_U, (0, more), constant_values=-1)
            self.arm_U = np.pad(self.arm_U, (0, more), constant_values=-1)
