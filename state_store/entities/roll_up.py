"""Items span partitions: their counts are exchanged between them."""

from collections.abc import Sequence

import msgspec
import redis

from state_store.client import script
from state_store.keys import Keys

_pack = msgspec.msgpack.encode


def other_fields(count_fields: Sequence[str]) -> tuple[str, ...]:
    """Names of the sums over the other partitions."""
    return tuple(f"other:{name}" for name in count_fields)


class RollUp:
    """Brings each partition the sums of the others.

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
        self._read_own = script(client, "read_own")
        self._write_others = script(client, "write_others")
        self._forget_dirty = script(client, "forget_dirty")

    def run(self, partitions: Sequence[int], num_partitions: int) -> int:
        """Arguments and result as of `StateStore.roll_up_items`."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in partitions:
                pipe.smembers(self._keys.dirty(p))
            changed: dict[int, set[bytes]] = dict(zip(partitions, pipe.execute(), strict=True))
        order = sorted(set().union(*changed.values()))
        if not order:
            return 0
        if num_partitions == 1:
            self._client.delete(self._keys.dirty(0))
            return len(order)
        own = {p: self._own(p, order) for p in range(num_partitions)}
        totals = [sum(values) for values in zip(*own.values(), strict=True)]
        for p, mine in own.items():
            self._write(p, order, [total - value for total, value in zip(totals, mine, strict=True)])
        # Behind the others' writing: what a refusal or a crash has kept from it is dirty still.
        for p, items in changed.items():
            self._forget(p, order, own[p], items)
        return len(order)

    def _own(self, partition: int, items: Sequence[bytes]) -> list[int]:
        """A partition's own counters of items, flat and in order."""
        keys, named = self._names(partition)
        found: list[int] = self._read_own(keys=keys, args=[*named, _pack([item.decode() for item in items])])
        return found

    def _write(self, partition: int, items: Sequence[bytes], others: Sequence[int]) -> None:
        keys, (prefix, _) = self._names(partition)
        self._write_others(keys=keys, args=[prefix, self._other_fields, self._rows(items, others), self._ttl_s])

    def _forget(self, partition: int, items: Sequence[bytes], own: Sequence[int], changed: set[bytes]) -> None:
        """Let those of the items be no longer dirty that have not changed since they were read."""
        keys, named = self._names(partition)
        self._forget_dirty(keys=keys, args=[*named, self._rows(items, own, changed)])

    def _names(self, partition: int) -> tuple[list[str], tuple[str, bytes]]:
        return [self._keys.dirty(partition)], (self._keys.item(partition, ""), self._count_fields)

    def _rows(self, items: Sequence[bytes], values: Sequence[int], only: set[bytes] | None = None) -> bytes:
        """Each item, or only some, with its values behind it."""
        rows: list[str | int] = []
        for n, item in enumerate(items):
            if only is None or item in only:
                rows += [item.decode(), *values[n * self._width : (n + 1) * self._width]]
        return _pack(rows)
