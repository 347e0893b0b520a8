"""The items of a world: which there are, how popular they are now, which are offered.

Legend: I slots, V visits, C candidates. A slot holds one item at a time.
"""

import numpy as np

from simulators.world.parameters import Candidates, Parameters
from simulators.world.tail import draw_tail, standard_of
from simulators.world.tastes import Attributed

NONE = -1
"""In place of a candidate that was drawn twice."""


class ItemPool:
    """Items, as many at any time.

    Args:
        parameters: of the world.
        rng: draws them.
    """

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        self._settings, self._rng = parameters.items, rng
        number = self._settings.number
        self.tastes = Attributed(
            self._settings.attributes, self._settings.attribute_share, (number, parameters.taste.dim), rng
        )
        self._spread_O = np.array([outcome.item for outcome in parameters.outcomes], np.float32)
        self.serial_I = np.zeros(number, np.int64)
        self.quality_I = np.zeros(number, np.float32)
        self.own_IO = np.zeros((number, len(self._spread_O)), np.float32)
        """The item's own part of each outcome's logit."""
        self.born_I = np.zeros(number)
        """Day of arrival."""
        self._appeal_I, self._trend_I = np.ones(number), np.zeros(number)
        self._bounds_I = np.zeros(number)
        self.num_arrived = 0
        self._arrive(np.arange(number), 0.0)
        # A world that begins is no world without old items.
        if self._settings.turnover:
            self.born_I -= rng.exponential(1 / self._settings.turnover, number)
        self._weigh(0.0)

    def _arrive(self, slots: np.ndarray, day: float) -> None:
        settings, size = self._settings, len(slots)
        self.serial_I[slots] = self.num_arrived + np.arange(size)
        self.num_arrived += size
        self.tastes.renew(slots)
        appeal_S = draw_tail(settings.popularity, self._rng, size)
        self._appeal_I[slots] = appeal_S
        z_S = standard_of(settings.popularity, appeal_S)
        shared = settings.quality_popularity
        own_S = self._rng.standard_normal(size)
        self.quality_I[slots] = settings.quality * (shared * z_S + np.sqrt(1 - shared**2) * own_S)
        self.own_IO[slots] = self._spread_O * self._rng.standard_normal((size, len(self._spread_O)))
        self._trend_I[slots] = settings.trend * self._rng.standard_normal(size)
        self.born_I[slots] = day

    def turn_over(self, day: float, days: float) -> None:
        """Some are replaced by new ones, trends go on, and all grow older.

        Args:
            day: time since the world began.
            days: since the last call.
        """
        settings = self._settings
        self._arrive(np.flatnonzero(self._rng.random(len(self.serial_I)) < 1 - (1 - settings.turnover) ** days), day)
        stays = np.exp(-days / settings.trend_days)
        noise_I = self._rng.standard_normal(len(self._trend_I))
        self._trend_I = stays * self._trend_I + settings.trend * np.sqrt(1 - stays**2) * noise_I
        self._weigh(day)

    def _weigh(self, day: float) -> None:
        age_I = np.maximum(day - self.born_I, 0.0)
        weight_I = self._appeal_I * np.exp(self._trend_I - age_I / self._settings.lifetime_days)
        self._bounds_I = np.cumsum(weight_I) / weight_I.sum()

    def candidates(self, size: tuple[int, int], how: Candidates, rng: np.random.Generator) -> np.ndarray:
        """Slots of candidates, (V, C) int64; `NONE` in place of one that was drawn before for the same visit.

        Args:
            size: V, C.
            how: where they come from.
            rng: draws them.
        """
        source_VC = rng.random(size, np.float32)
        drawn_VC = np.searchsorted(self._bounds_I, rng.random(size), side="right")
        np.minimum(drawn_VC, len(self.serial_I) - 1, out=drawn_VC)
        other = np.flatnonzero(source_VC.ravel() >= how.popular)
        flat = drawn_VC.ravel()
        flat[other] = rng.integers(len(self.serial_I), size=len(other))
        newest = np.argsort(self.serial_I)[-how.newest :]
        new = other[source_VC.ravel()[other] < how.popular + how.new]
        flat[new] = newest[rng.integers(len(newest), size=len(new))]
        return without_repeats(drawn_VC)


def without_repeats(slots_VC: np.ndarray) -> np.ndarray:
    """Rows in which whatever stands there already, farther left, is `NONE`.

    >>> without_repeats(np.array([[3, 5, 3, 5, 7]]))
    array([[ 3,  5, -1, -1,  7]])
    """
    order_VC = np.argsort(slots_VC, axis=1, kind="stable")
    sorted_VC = np.take_along_axis(slots_VC, order_VC, axis=1)
    sorted_VC[:, 1:][sorted_VC[:, 1:] == sorted_VC[:, :-1]] = NONE
    out_VC = np.empty_like(slots_VC)
    np.put_along_axis(out_VC, order_VC, sorted_VC, axis=1)
    return out_VC
