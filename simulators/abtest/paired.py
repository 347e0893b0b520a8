"""Both arms' lists for the same visits, by the truth: what one would have shown where the other one did.

Which users are in which arm, how active they are and what was drawn for them then makes no difference between the arms:
few worlds show what the split alone would show with many.

Legend: U users by their number, V visits, W some of them, C candidates of each, L places of a list, M candidates of all
visits that there are, A arms, G groups of candidates, I items by their number, S some of the users.
"""

from collections.abc import Sequence

import numpy as np

from simulators.abtest.choice import clicks, places, reach_of, spread
from simulators.world.items import NONE
from simulators.world.world import Impressions, Visits, World

GAIN = "reach_gain"
"""The second arm's reach less the first's, in points of reach: absolute, and no relative difference."""
_BANDS = {"unseen": (0, 1), "few": (1, 10), "some": (10, 100), "many": (100, np.inf)}
"""Candidates by how often their item had been shown to anybody: from, and below."""
GAINS = (GAIN, *(f"{GAIN}_{band}" for band in _BANDS))
_CHOSEN = 4
"""Of a band's candidates, a quarter is chosen: one at least, and at most as many as a list has."""


class Pairs:
    """Sums by user of how far either arm's lists reach, of all candidates and of those of each band by themselves."""

    def __init__(self) -> None:
        self._sums_GUA = np.zeros((len(GAINS), 0, 2))
        self._lists_GU = np.zeros((len(GAINS), 0))
        self._shown_I = np.zeros(0)
        """Impressions by the number of the item."""

    def judge(self, world: World, visits: Visits, slots_VC: np.ndarray, scores_AM: Sequence[np.ndarray]) -> None:
        """Note what either arm makes of V visits; those that leave no choice do not count.

        Args:
            world: which knows.
            visits: of the last step, before anything is shown.
            slots_VC: candidates, `NONE` where there is none.
            scores_AM: either arm's, of those that there are.
        """
        users_V = world.users.serial_U[visits.slot_V]
        self._sums_GUA = _grown(self._sums_GUA, 1, int(users_V.max(initial=-1)) + 1)
        self._lists_GU = _grown(self._lists_GU, 1, self._sums_GUA.shape[1])
        clicks_VC = clicks(world, visits, slots_VC)
        scores_AVC = [spread(slots_VC, scores_M) for scores_M in scores_AM]
        size, shown_VC = world.parameters.lists.size, self._shown(world, slots_VC)
        self._note(0, users_V, [clicks_VC, *scores_AVC], np.full(len(visits), size))
        for g, (low, below) in enumerate(_BANDS.values(), start=1):
            is_in_VC = (shown_VC >= low) & (shown_VC < below)
            of_band = [np.where(is_in_VC, values_VC, -np.inf) for values_VC in (clicks_VC, *scores_AVC)]
            self._note(g, users_V, of_band, np.clip(is_in_VC.sum(axis=1) // _CHOSEN, 1, size))

    def _note(self, g: int, users_V: np.ndarray, of_group: Sequence[np.ndarray], sizes_V: np.ndarray) -> None:
        """What is gained where the best so many by an arm's scores are chosen of a group.

        Args:
            g: the group's number.
            users_V: numbers of the users.
            of_group: clicks, and either arm's scores, (V, C) each, minus infinity where there is none.
            sizes_V: how many are chosen.
        """
        clicks_VC, *scores_AVC = of_group
        has_choice = np.flatnonzero(np.isfinite(clicks_VC).sum(axis=1) > sizes_V)
        clicks_WC, users_W, sizes_W = clicks_VC[has_choice], users_V[has_choice], sizes_V[has_choice]
        for a, scores_VC in enumerate(scores_AVC):
            columns_WL = places(scores_VC[has_choice], int(sizes_W.max(initial=1)))
            is_chosen_WL = np.arange(columns_WL.shape[1]) < sizes_W[:, None]
            chosen_WL = np.where(is_chosen_WL, np.take_along_axis(clicks_WC, columns_WL, axis=1), -np.inf)
            np.add.at(self._sums_GUA[g, :, a], users_W, reach_of(clicks_WC, chosen_WL))
        np.add.at(self._lists_GU[g], users_W, 1)

    def update(self, shown: Impressions) -> None:
        """Count what was shown, before the test and in it."""
        self._shown_I = _grown(self._shown_I, 0, int(shown.item_N.max(initial=-1)) + 1)
        np.add.at(self._shown_I, shown.item_N, 1)

    def of(self, gain: str, is_in_U: np.ndarray) -> np.ndarray:
        """How far either arm's lists reach, (S, A), mean by user, of those who had such lists.

        Args:
            gain: one of `GAINS`.
            is_in_U: which users.
        """
        g = GAINS.index(gain)
        users = np.flatnonzero(is_in_U[: self._lists_GU.shape[1]])
        users = users[self._lists_GU[g, users] > 0]
        reach_SA: np.ndarray = self._sums_GUA[g, users] / self._lists_GU[g, users, None]
        return reach_SA

    def _shown(self, world: World, slots_VC: np.ndarray) -> np.ndarray:
        """How often each candidate's item was shown, (V, C); -1 where there is none."""
        items_VC = world.items.serial_I[slots_VC]
        self._shown_I = _grown(self._shown_I, 0, int(items_VC.max(initial=-1)) + 1)
        shown_VC: np.ndarray = np.where(slots_VC == NONE, -1, self._shown_I[items_VC])
        return shown_VC


def _grown(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    """With zeros behind, where it is shorter; by more than is asked for, so that it is seldom done."""
    more = size - values.shape[axis]
    if more <= 0:
        return values
    widths = [(0, more + size // 4 if n == axis else 0) for n in range(values.ndim)]
    return np.pad(values, widths)
