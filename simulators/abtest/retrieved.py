"""Candidates that a two-tower model finds: it learns from what everybody is shown, and searches all items exactly.

It is the test's, and no arm's: both arms rank the same candidates. What becomes of an impression it knows at once.

Legend: V visits, C candidates, N impressions, L places of a list, E entities (slots of a pool), F fields.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from learner.config import FieldSettings
from learner.retrieval.config import TwoTowerSettings
from learner.retrieval.entities import Entities
from learner.retrieval.interactions import Pairs
from learner.retrieval.model import TwoTower
from learner.retrieval.search import exact_top
from simulators.world.items import NONE, ItemPool, without_repeats
from simulators.world.users import UserPool
from simulators.world.world import Visits, World

_IDS_PER_SLOT = 4
"""Rows for ids, by slots of a pool: who has left leaves its row to somebody who comes later."""
_SETTINGS = TwoTowerSettings(batch=256, num_uniform=64)


class _Side:
    """Users or items, by slot; who arrives begins with no counts."""

    def __init__(self, own: Literal["user", "item"], attributes: Mapping[str, int], pool: UserPool | ItemPool) -> None:
        others = (FieldSettings(name, own, "categorical") for name in attributes)
        self._fields, self._pool = [FieldSettings(f"{own}_id", own, "id"), *others], pool
        size = len(self.serials)
        self._begins_F = np.cumsum([0, size * _IDS_PER_SLOT, *attributes.values()])
        self._known_E = np.full(size, -1)
        self.counts_E2 = np.zeros((size, 2), np.int64)
        """Impressions and clicks."""

    @property
    def serials(self) -> np.ndarray:
        return self._pool.serial_U if isinstance(self._pool, UserPool) else self._pool.serial_I

    def entities(self) -> Entities:
        """Whoever is there now."""
        new = self._known_E != self.serials
        self.counts_E2[new], self._known_E = 0, self.serials.copy()
        ids_E = self.serials % (self._begins_F[1])
        values_EF = np.column_stack([ids_E, self._pool.tastes.codes_NA]) + self._begins_F[:-1]
        found = Entities(
            self._fields, [str(one) for one in self.serials], values_EF.ravel(), np.arange(values_EF.size + 1)
        )
        found.num_values = int(self._begins_F[-1])
        return found

    def count(self, slots_N: np.ndarray, labels_N: np.ndarray) -> None:
        np.add.at(self.counts_E2[:, 0], slots_N, 1)
        np.add.at(self.counts_E2[:, 1], slots_N, labels_N)


class Retrieval:
    """Learns step by step, and puts what it finds among the candidates.

    Args:
        world: who asks, and what there is.
        share: of the candidates.
        seed: of the model.
    """

    def __init__(self, world: World, share: float, seed: int) -> None:
        self._share = share
        parameters = world.parameters
        self._users = _Side("user", parameters.users.attributes, world.users)
        self._items = _Side("item", parameters.items.attributes, world.items)
        settings = msgspec.structs.replace(_SETTINGS, seed=seed)
        self._model = TwoTower(self._users.entities(), self._items.entities(), settings)
        self._has_learned = False

    def among(self, visits: Visits, slots_VC: np.ndarray) -> np.ndarray:
        """Candidates with its own in the first places, (V, C) slots; before it has learned, as they are.

        Args:
            visits: of the last step.
            slots_VC: candidates, `NONE` where there is none.
        """
        num = round(self._share * slots_VC.shape[1])
        self._model.users, self._model.items = self._users.entities(), self._items.entities()
        if not self._has_learned or not num:
            return slots_VC
        users_Q, of_user_V = np.unique(visits.slot_V, return_inverse=True)
        users_QE = self._model.user_vectors(users_Q, self._users.counts_E2[users_Q])
        items_QN, _ = exact_top(users_QE, self._model.item_vectors(self._items.counts_E2), num)
        return without_repeats(np.concatenate([items_QN[of_user_V], slots_VC[:, num:]], axis=1))

    def learn(self, visits: Visits, lists_VL: np.ndarray, clicked_N: np.ndarray) -> None:
        """Learn from a step's impressions.

        Args:
            visits: of the last step.
            lists_VL: shown to them, `NONE` where a list is shorter.
            clicked_N: what came of them, visit by visit.
        """
        place_N, column_N = np.nonzero(lists_VL != NONE)
        users_N, items_N, labels_N = visits.slot_V[place_N], lists_VL[place_N, column_N], clicked_N.astype(np.int64)
        for start in range(0, len(users_N), _SETTINGS.batch):
            some = slice(start, start + _SETTINGS.batch)
            users_B, items_B, labels_B = users_N[some], items_N[some], labels_N[some]
            counts_B = self._users.counts_E2[users_B], self._items.counts_E2[items_B]
            self._model.frequency.update(items_B[labels_B > 0])
            self._model.learn(Pairs(users_B, items_B, labels_B, *counts_B), self._items.counts_E2)
            self._users.count(users_B, labels_B)
            self._items.count(items_B, labels_B)
        self._has_learned = self._has_learned or bool(labels_N.any())
