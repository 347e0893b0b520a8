"""Items span partitions: their counts are exchanged between them.

Legend: I items of a call, C counters of an item.
"""

from collections.abc import Callable, Sequence
from itertools import compress

import msgspec
import numpy as np
import redis

from state_store.client import script
from state_store.keys import Keys

_AT_ONCE = 4096
"""Items of one call, so that none keeps Redis from its other work for long."""
_SEVERAL = -1
"""In place of a partition's number: an item changed in more than one."""
_pack = msgspec.msgpack.encode
Told = Callable[[int, Sequence[str], np.ndarray, int], None]
"""Partition, I items, their sums over the others as I rows of C, and how often roll-ups have written there by now."""


def other_fields(count_fields: Sequence[str]) -> tuple[str, ...]:
    """Names of the sums over the other partitions."""
    return tuple(f"other:{name}" for name in count_fields)


class RollUp:
    """Brings each partition the sums of the others.

    Whatever ends a roll-up half-way, and however many run at once, each change is rolled up by one that read it: items
    are taken before they are read, and done with when all partitions have been written.

    Args:
        client: Redis.
        keys: names of its keys.
        count_fields: an item's own counters.
        ttl_s: life of an item, wall clock.
    """

    def __init__(self, client: redis.Redis, keys: Keys, count_fields: Sequence[str], ttl_s: int) -> None:
        self._client = client
        self._keys = keys
        self._width = len(count_fields)
        self._count_fields = _pack(count_fields)
        self._other_fields = _pack(other_fields(count_fields))
        self._ttl_s = ttl_s
        self._take = script(client, "roll_up_take")
        self._read = script(client, "roll_up_read")
        self._write = script(client, "roll_up_write")
        self._settle = script(client, "roll_up_settle")

    def run(self, partitions: Sequence[int], num_partitions: int, told: Told | None = None) -> int:
        """Arguments and result as of `StateStore.roll_up_items`."""
        keys, numbers, changed_in = self._keys, dict[int, int](), dict[bytes, int]()
        for p in partitions:
            numbers[p], items = self._take(keys=[keys.fence(p), keys.dirty(p), keys.rolling(p)])
            for item in items:
                changed_in[item] = p if changed_in.get(item, p) == p else _SEVERAL
        names, only_in = [item.decode() for item in changed_in], list(changed_in.values())
        if num_partitions > 1:
            for begin in range(0, len(names), _AT_ONCE):
                part = slice(begin, begin + _AT_ONCE)
                self._exchange(names[part], np.array(only_in[part]), num_partitions, told)
        for p, number in numbers.items():
            if number:
                self._settle(keys=[keys.fence(p), keys.rolling(p)], args=[number])
        return len(names)

    def _exchange(self, items: list[str], only_in_I: np.ndarray, num_partitions: int, told: Told | None) -> None:
        """Read items in all partitions, and write in each what others have that changed."""
        keys, packed, own = self._keys, _pack(items), list[np.ndarray]()
        with self._client.pipeline(transaction=False) as pipe:
            # Before all counters: whoever writes behind this may have read newer ones.
            for p in range(num_partitions):
                pipe.hget(keys.fence(p), "rolls")
            num_rolls = [int(found or 0) for found in pipe.execute()]
        for p in range(num_partitions):
            values = self._read(keys=[keys.fence(p)], args=[keys.item(p, ""), self._count_fields, packed])
            own.append(np.array(values, np.int64).reshape(len(items), self._width))
        total_IC = np.sum(own, axis=0)
        for p, (rolls, own_IC) in enumerate(zip(num_rolls, own, strict=True)):
            is_asked_I = only_in_I != p
            if not is_asked_I.any():
                continue
            names, others_IC = list(compress(items, is_asked_I.tolist())), (total_IC - own_IC)[is_asked_I]
            sums = _pack(others_IC.ravel().tolist())
            number = self._write(
                keys=[keys.fence(p)],
                args=[keys.item(p, ""), self._other_fields, _pack(names), sums, self._ttl_s, rolls],
            )
            if told is not None:
                told(p, names, others_IC, number)
