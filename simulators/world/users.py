"""The users of a world: who is there, how active they are, how well they were served.

Legend: U slots, S some of them. A slot holds one user at a time; who arrives takes the slot of who leaves.
"""

import numpy as np

from simulators.world.parameters import Parameters
from simulators.world.tail import draw_tail
from simulators.world.tastes import Attributed

_LEAST, _MOST = np.log(1 / 3), np.log(3.0)


class UserPool:
    """Users, as many at any time.

    Args:
        parameters: of the world.
        rng: draws them.
    """

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        self._settings, self._returns, self._rng = parameters.users, parameters.returns, rng
        number = self._settings.number
        self.tastes = Attributed(
            self._settings.attributes, self._settings.attribute_share, (number, parameters.taste.dim), rng
        )
        self.serial_U = np.zeros(number, np.int64)
        """Number of the user in each slot; a number is never given twice."""
        self.level_U = np.zeros(number, np.float32)
        self.satisfaction_U = np.zeros(number, np.float32)
        self._rate_U = np.zeros(number)
        self.num_arrived = 0
        self._arrive(np.arange(number))

    def turn_over(self, days: float) -> np.ndarray:
        """Some leave for good and others arrive, (S,) their slots."""
        slots = np.flatnonzero(self._rng.random(len(self.serial_U)) < 1 - (1 - self._settings.turnover) ** days)
        self._arrive(slots)
        return slots

    def _arrive(self, slots: np.ndarray) -> None:
        self.serial_U[slots] = self.num_arrived + np.arange(len(slots))
        self.num_arrived += len(slots)
        self.tastes.renew(slots)
        self.level_U[slots] = self._settings.level * self._rng.standard_normal(len(slots))
        self._rate_U[slots] = self._settings.visits_per_day * draw_tail(self._settings.activity, self._rng, len(slots))
        self.satisfaction_U[slots] = 0.0

    def visits(self, days: float, arrived: np.ndarray) -> np.ndarray:
        """Slots of those who visit in a stretch of time, each as often as they do; who has just arrived does.

        Args:
            days: expected length of the stretch, as busy as the day is on average.
            arrived: slots of the new.
        """
        lift_U = np.exp(np.clip(self._returns.strength * self.satisfaction_U, _LEAST, _MOST))
        num_U = self._rng.poisson(self._rate_U * lift_U * days)
        num_U[arrived] = np.maximum(num_U[arrived], 1)
        return np.repeat(np.arange(len(num_U)), num_U)

    def served(self, slots_V: np.ndarray, quality_V: np.ndarray) -> None:
        """Take in how good the lists of V visits were: their mean click probability."""
        sums_U = np.bincount(slots_V, quality_V, len(self.serial_U))
        num_U = np.bincount(slots_V, minlength=len(self.serial_U))
        came = np.flatnonzero(num_U)
        # Several lists in one step weigh as much as they would one after the other.
        weight_S = 1 - (1 - self._returns.memory) ** num_U[came]
        newest_S = sums_U[came] / num_U[came] - self._returns.expected
        self.satisfaction_U[came] += weight_S * (newest_S - self.satisfaction_U[came])
