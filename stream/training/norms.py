"""Embedding norms on their way back into the state, where the adapter's r_norm comes from (AdaF2M2, section 3.4).

They are written by number of samples, too, and not only with each publish: in a replay faster than life, two seconds
of the wall clock are a user's whole history.
"""

import math
from collections.abc import Iterable

from learner.learner import Learner
from learner.sample import Sample
from state_store.states import StateStore

_USER, _ITEM = "user_id", "item_id"


class NormWriter:
    """Remembers who was learned from, and writes their norms.

    Args:
        store: where they go.
        num_partitions: of the input topics; an item's norm goes to each.
        owner: the learner's number, from `Outbox.own`; 0 where there can be no other.
    """

    def __init__(self, store: StateStore, num_partitions: int, owner: int = 0) -> None:
        self._store = store
        self._owner = owner
        self._num_partitions = num_partitions
        self._users: dict[str, int] = {}
        self._items: set[str] = set()
        self.num_waiting = 0
        """Samples learned since the norms were written last."""

    def note(self, taken: Iterable[tuple[int, int, Sample]]) -> None:
        """Samples were learned from: (partition, sequence, sample) each."""
        for partition, _, sample in taken:
            self._users[sample.core.user_id] = partition
            self._items.add(sample.core.item_id)
            self.num_waiting += 1

    def write(self, learner: Learner, version: int) -> None:
        """Write the norms of everyone learned from since the last call.

        Args:
            learner: whose embeddings.
            version: of the weights that they belong to; that of the next ones, if they are written ahead of them.

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        users: dict[int, dict[str, float]] = {}
        of_users = self._norms(learner, _USER, self._users)
        for user, norm in of_users.items():
            users.setdefault(self._users[user], {})[user] = norm
        items = self._norms(learner, _ITEM, self._items)
        # Whoever has no row has no norm. So while Redis refuses them, no more wait than the table has rows.
        self._users = {user: self._users[user] for user in of_users}
        self._items = set(items)
        self._store.write_norms(version, users, items, self._num_partitions, self._owner)
        # Behind the call: if Redis was away, they are written by the next one.
        self._users, self._items, self.num_waiting = {}, set(), 0

    def _norms(self, learner: Learner, field: str, ids: Iterable[str]) -> dict[str, float]:
        """Norm by id, of those that have a row of their own; one that is no number is left out."""
        number = [declared.name for declared in learner.fields].index(field)
        found = learner.table.norms_of(number, ids)
        return {key: norm for key, norm in found.items() if math.isfinite(norm)}
