"""The state of one user and of many items in one round trip, as arrays.

Legend: B items, C counters.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

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


class PackedReads:
    """What the script `lua/read_state` is asked, and what its answer means; it runs on any client, blocking or not.

    Args:
        keys: of the pipeline.
        count_fields: C, what is counted: impressions, then the actions.
    """

    def __init__(self, keys: Keys, count_fields: Sequence[str]) -> None:
        self._keys = keys
        self._width = len(count_fields)
        self._count_fields = _pack(list(count_fields))

    def ask(self, partition: int, user_id: str, item_ids: Sequence[str]) -> tuple[list[str], list[Any]]:
        """The script's keys and arguments.

        Args:
            partition: the user's.
            user_id: of the user.
            item_ids: B of them.
        """
        keys = self._keys
        return [keys.user(partition, user_id)], [keys.item(partition, ""), _pack(item_ids), self._count_fields]

    def read(self, answer: bytes) -> PackedState:
        """The state that an answer holds."""
        width, numbers = self._width, np.frombuffer(answer, "<f8")
        user, items_BX = numbers[: width + 4], numbers[width + 4 :].reshape(-1, width + 2)
        return PackedState(
            user[:width],
            float(user[width]),
            int(user[width + 1]),
            float(user[width + 2]),
            float(user[width + 3]),
            items_BX[:, :width],
            items_BX[:, width],
            items_BX[:, width + 1],
        )

    def nothing(self, num_items: int) -> PackedState:
        """What is known where the state cannot be read."""
        return self.read(bytes(8 * (self._width + 4 + num_items * (self._width + 2))))
