"""The state of one user and of many items in one round trip, as arrays.

Legend: B items, C counters.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from state_store.entities.histories import ENTRY_BYTES, Histories
from state_store.keys import Keys

_pack = msgspec.msgpack.encode


class PackedState(msgspec.Struct, frozen=True):
    """What is known of a user and of B items; zeros of whoever was never seen. float64."""

    user_counts_C: np.ndarray
    """Impressions, then one count per action."""
    user_norm: float
    user_norm_version: int
    user_first_ts: float
    user_last_ts: float
    """Event times of the user's first and last impression, ms."""
    item_counts_BC: np.ndarray
    """Over all partitions."""
    item_norm_B: np.ndarray
    item_norm_version_B: np.ndarray
    histories: tuple[bytes, ...] = ()
    """The user's, each of entries as they are kept (`state_store/entities/histories.py`)."""

    def histories_before(self, ts: int, lengths: Sequence[int]) -> list[bytes]:
        """Of each history the newest entries before `ts`, at most so many."""
        found = []
        for text, length in zip(self.histories, lengths, strict=True):
            times = np.ndarray(len(text) // ENTRY_BYTES, "<f8", text, strides=(ENTRY_BYTES,))
            end = int(np.searchsorted(times, ts))
            found.append(text[ENTRY_BYTES * max(end - length, 0) : ENTRY_BYTES * end])
        return found


class PackedReads:
    """What the script `lua/read_state` is asked, and what its answer means; it runs on any client, blocking or not.

    Args:
        keys: of the pipeline.
        count_fields: C, what is counted: impressions, then the actions.
        histories: that are kept.
    """

    def __init__(self, keys: Keys, count_fields: Sequence[str], histories: Histories | None = None) -> None:
        self._keys = keys
        self._width = len(count_fields)
        self._count_fields = _pack(list(count_fields))
        fields = () if histories is None else histories.fields
        self._histories, self._num_histories = _pack(fields), len(fields)

    def ask(self, partition: int, user_id: str, item_ids: Sequence[str]) -> tuple[list[str], list[Any]]:
        """The script's keys and arguments.

        Args:
            partition: the user's.
            user_id: of the user.
            item_ids: B of them.
        """
        prefix = self._keys.item(partition, "")
        return [self._keys.user(partition, user_id)], [prefix, _pack(item_ids), self._count_fields, self._histories]

    def read(self, answer: bytes) -> PackedState:
        """The state that an answer holds."""
        width, numbers = self._width, np.frombuffer(answer, "<f8")
        user_end = width + 4 + self._num_histories
        user = numbers[:user_end]
        sizes = [int(size) for size in user[width + 4 :]]
        items_end = len(answer) - sum(sizes)
        items_BX = numbers[user_end : items_end // 8].reshape(-1, width + 2)
        return PackedState(
            user[:width],
            float(user[width]),
            int(user[width + 1]),
            float(user[width + 2]),
            float(user[width + 3]),
            items_BX[:, :width],
            items_BX[:, width],
            items_BX[:, width + 1],
            tuple(answer[items_end + sum(sizes[:n]) :][:size] for n, size in enumerate(sizes)),
        )

    def nothing(self, num_items: int) -> PackedState:
        """What is known where the state cannot be read."""
        return self.read(bytes(8 * (self._width + 4 + self._num_histories + num_items * (self._width + 2))))
