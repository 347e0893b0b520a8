"""Pairs of users and items -> samples -> rank scores, many users at once.

The same as a scorer makes of one request (`stream/serving/packing.py`), column by column over all of them.

Legend: M pairs, K different users, B different items.
"""

from collections.abc import Mapping

import numpy as np

from learner.samples.asked import asked_rows
from learner.samples.columns import Samples
from learner.samples.keys import value_key
from learner.samples.layout import Layout
from simulators.abtest.pipeline import Pipeline, State
from simulators.world.items import ItemPool
from simulators.world.rows import value_name
from simulators.world.users import UserPool
from simulators.world.world import World

_BLOCK = 1 << 15
"""Pairs that are scored at a time."""


class PoolKeys:
    """Keys of whoever is in the slots of a pool, by field.

    Args:
        own: name of the id's field, and what an id begins with.
        attributes: name -> number of values.
        pool: users or items.
    """

    def __init__(self, own: tuple[str, str], attributes: Mapping[str, int], pool: UserPool | ItemPool) -> None:
        self._own, self._pool = own, pool
        self._of_values = [
            np.array([value_key(name, value_name(name, code)) for code in range(size)], np.uint64)
            for name, size in attributes.items()
        ]
        self.fields = (own[0], *attributes)
        self._known_P = np.full(len(self._serials), -1)
        self.keys_PF = np.zeros((len(self._known_P), len(self.fields)), np.uint64)

    @property
    def _serials(self) -> np.ndarray:
        return self._pool.serial_U if isinstance(self._pool, UserPool) else self._pool.serial_I

    def ids(self, slots: np.ndarray) -> list[str]:
        """Ids of whoever is there."""
        return [f"{self._own[1]}{number}" for number in self._serials[slots].tolist()]

    def refresh(self) -> None:
        """Look at who has come."""
        new = np.flatnonzero(self._known_P != self._serials)
        self._known_P[new] = self._serials[new]
        self.keys_PF[new, 0] = [value_key(self._own[0], one) for one in self.ids(new)]
        for a, keys_C in enumerate(self._of_values):
            self.keys_PF[new, a + 1] = keys_C[self._pool.tastes.codes_NA[new, a]]


class Ranker:
    """Scores by a pipeline's model.

    Args:
        world: whose slots they are.
        pipeline: of an arm.
    """

    def __init__(self, world: World, pipeline: Pipeline) -> None:
        users, items = world.parameters.users.attributes, world.parameters.items.attributes
        self._pools = (
            PoolKeys(("user_id", "u"), users, world.users),
            PoolKeys(("item_id", "i"), items, world.items),
        )
        self._pipeline = pipeline
        self._columns = _columns(pipeline.layout, self._pools)

    def scores(self, users_M: np.ndarray, items_M: np.ndarray, ts_M: np.ndarray) -> np.ndarray:
        """Rank scores of pairs of slots, (M,); zeros before there are weights."""
        if not self._pipeline.version or not len(users_M):
            return np.zeros(len(users_M), np.float32)
        samples = self.samples(users_M, items_M, ts_M)
        parts = [
            self._pipeline.model.predict(samples.slice(at, at + _BLOCK)).ranks_B
            for at in range(0, len(users_M), _BLOCK)
        ]
        return np.concatenate(parts)

    def samples(self, users_M: np.ndarray, items_M: np.ndarray, ts_M: np.ndarray) -> Samples:
        """Samples of pairs of slots, with the state as of now."""
        for pool in self._pools:
            pool.refresh()
        users_K, of_user_M = np.unique(users_M, return_inverse=True)
        items_B, of_item_M = np.unique(items_M, return_inverse=True)
        state = self._pipeline.state(self._pools[0].ids(users_K), self._pools[1].ids(items_B))
        rows_M = asked_rows(self._pipeline.layout, len(users_M))
        rows_M["ts"] = ts_M
        for column, (number, field) in enumerate(self._columns):
            slots_M = items_M if number else users_M
            rows_M["keys"][:, column] = self._pools[number].keys_PF[slots_M, field]
        _fill(rows_M, state, of_user_M, of_item_M)
        return Samples(self._pipeline.layout, rows_M, np.zeros(0, np.uint64), [])


def _columns(layout: Layout, pools: tuple[PoolKeys, PoolKeys]) -> list[tuple[int, int]]:
    """By column of the keys: which pool, and which of its fields."""
    found = {name: (n, f) for n, pool in enumerate(pools) for f, name in enumerate(pool.fields)}
    return [found[layout.fields[n].name] for n in layout.single]


def _fill(rows_M: np.ndarray, state: State, of_user_M: np.ndarray, of_item_M: np.ndarray) -> None:
    for name, values in state.users.items():
        rows_M[name] = values[of_user_M]
    rows_M["item_counts"] = state.item_counts_BC[of_item_M]
    rows_M["item_norm"], rows_M["item_norm_version"] = (
        state.item_norms_B[of_item_M],
        state.item_norm_versions_B[of_item_M],
    )
