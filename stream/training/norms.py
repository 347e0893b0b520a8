"""Embedding norms on their way back into the state, where the adapter's r_norm comes from (AdaF2M2, section 3.4).

They are written by number of samples, too, and not only with each publish: in a replay faster than life, two seconds
of the wall clock are a user's whole history.
"""

import math
from itertools import compress

import numpy as np

from learner.published.changed import AnyLearner
from learner.samples.columns import Samples
from state_store.states import StateStore


class _Seen:
    """Ids learned from, with their keys and partitions, until their norms are written."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._keys: list[np.ndarray] = []
        self._partitions: list[np.ndarray] = []

    def note(self, ids: list[str], keys_B: np.ndarray, partitions_B: np.ndarray) -> None:
        self._ids += ids
        self._keys.append(keys_B)
        self._partitions.append(partitions_B)

    def known(self, learner: AnyLearner) -> dict[str, tuple[int, float]]:
        """Id -> partition and norm, of those that have a row of their own; one whose norm is no number is left out.

        Whoever has no row has no norm, and is forgotten: so while Redis refuses norms, no more wait than have rows.
        """
        if not self._ids:
            return {}
        keys_N, first_N = np.unique(np.concatenate(self._keys), return_index=True)
        partitions_N = np.concatenate(self._partitions)[first_N]
        norms_N = learner.norms_of(keys_N)
        kept = np.flatnonzero(norms_N > 0)
        ids = [self._ids[first] for first in first_N[kept].tolist()]
        self._ids, self._keys, self._partitions = list(ids), [keys_N[kept]], [partitions_N[kept]]
        return {
            key: (partition, norm)
            for key, partition, norm in zip(ids, partitions_N[kept].tolist(), norms_N[kept].tolist(), strict=True)
            if math.isfinite(norm)
        }


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
        self._users, self._items = _Seen(), _Seen()
        self.num_waiting = 0
        """Samples learned since the norms were written last."""

    def note(self, samples: Samples, partitions_B: np.ndarray) -> None:
        """Samples of these partitions came; those that are learned from are noted."""
        is_learned_B = samples.is_learned
        wanted, partitions_N = is_learned_B.tolist(), partitions_B[is_learned_B]
        self._users.note(list(compress(samples.user_ids, wanted)), samples.user_keys[is_learned_B], partitions_N)
        self._items.note(list(compress(samples.item_ids, wanted)), samples.item_keys[is_learned_B], partitions_N)
        self.num_waiting += len(partitions_N)

    def write(self, learner: AnyLearner, version: int) -> None:
        """Write the norms of everyone learned from since the last call.

        Args:
            learner: whose embeddings.
            version: of the weights that they belong to; that of the next ones, if they are written ahead of them.

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        users: dict[int, dict[str, float]] = {}
        for user, (partition, norm) in self._users.known(learner).items():
            users.setdefault(partition, {})[user] = norm
        items = {item: norm for item, (_, norm) in self._items.known(learner).items()}
        self._store.write_norms(version, users, items, self._num_partitions, self._owner)
        # Behind the call: if Redis was away, they are written by the next one.
        self._users, self._items, self.num_waiting = _Seen(), _Seen(), 0
