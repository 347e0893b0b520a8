"""How much memory of Redis each kind takes: estimated from a few hundred keys, so that Redis is not held up.

Users and items are as many keys as there are of them: how many, and of what size, is told by keys drawn at random. Of
all else a partition has one key each, whose size Redis estimates from some of its entries. On a cluster each master is
looked at by itself, and the sum is told.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import redis
from redis.cluster import RedisCluster

from state_store.keys import Keys
from state_store.memory.kinds import Kind, keys_of_partition, kind_of

_ENTRIES = 50
"""Of a large key, from which Redis estimates its size."""
_AT_ONCE = 64
"""Keys of one round trip."""
_MOST = 64
"""Partitions, or chunks of weights, that are looked at; they stand for all."""
_DRAWN = frozenset({Kind.USERS, Kind.ITEMS, Kind.FOREIGN})
"""Kinds of which there may be more keys than can be looked at."""


class KindMemory(msgspec.Struct, frozen=True):
    """What one kind takes."""

    kind: Kind
    num_keys: float
    num_bytes: float
    """With the names of the keys and their entries in Redis' table; without the table itself."""


class MemoryEstimate(msgspec.Struct, frozen=True):
    """What all kinds take."""

    kinds: list[KindMemory]
    """Those that there are, the largest first."""
    num_drawn: int
    """Keys that were looked at to know how many and how large the others are."""
    is_whole: bool
    """Whether these were all that there are."""

    @property
    def user_bytes(self) -> float | None:
        """Bytes of one user in the mean, with all histories; None without users."""
        return self._each(Kind.USERS, Kind.HISTORIES)

    @property
    def item_bytes(self) -> float | None:
        """Bytes of one item in the mean, in one partition; None without items."""
        return self._each(Kind.ITEMS)

    def _each(self, counted: Kind, *more: Kind) -> float | None:
        of = {row.kind: row for row in self.kinds}
        if counted not in of:
            return None
        return sum(of[kind].num_bytes for kind in (counted, *more) if kind in of) / of[counted].num_keys


def masters(client: redis.Redis) -> list[redis.Redis]:
    """A connection to each master; of a single server its own."""
    if not isinstance(client, RedisCluster):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


class Estimator:
    """Looks at the keys of one pipeline.

    Args:
        client: Redis.
        prefix: of the keys.
        num_partitions: P.
        history_fields: of users' hashes.
    """

    def __init__(
        self, client: redis.Redis, prefix: str, num_partitions: int, history_fields: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._num_partitions = num_partitions
        self._history_fields = history_fields
        self._of: defaultdict[Kind, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def look(self, num_keys: int = 400, budget_s: float = 0.5) -> MemoryEstimate:
        """Estimate anew.

        Args:
            num_keys: drawn from each master; where none has more, all are looked at.
            budget_s: after which no more are drawn, and those seen stand for the others.

        Raises:
            redis.RedisError: a server does not answer, or refuses.
        """
        self._of.clear()
        servers = masters(self._client)
        sizes = [server.dbsize() for server in servers]
        is_whole, num_drawn = max(sizes) <= num_keys, 0
        for server, size in zip(servers, sizes, strict=True):
            seconds = budget_s / len(servers)
            drawn = list(server.scan_iter(count=num_keys)) if is_whole else _random_keys(server, num_keys, seconds)
            num_drawn += len(drawn)
            self._add_drawn(server, drawn, 1.0 if is_whole else size / max(1, len(drawn)), is_whole=is_whole)
        if not is_whole:
            self._add_partitions()
            self._add_weights()
        rows = [KindMemory(kind, *found) for kind, found in self._of.items() if found[0]]
        return MemoryEstimate(sorted(rows, key=lambda row: -row.num_bytes), num_drawn, is_whole)

    def _add(self, kind: Kind, num_keys: float, num_bytes: float) -> None:
        self._of[kind][0] += num_keys
        self._of[kind][1] += num_bytes

    def _add_drawn(self, server: redis.Redis, drawn: Sequence[bytes], scale: float, *, is_whole: bool) -> None:
        """Each drawn key stands for `scale` of them."""
        kinds = {key: kind_of(self._keys.prefix, key) for key in drawn}
        own = [key for key in drawn if kinds[key] is not Kind.FOREIGN and (is_whole or kinds[key] in _DRAWN)]
        users = [key for key in own if kinds[key] is Kind.USERS and self._history_fields]
        lengths = self._history_bytes(server, users)
        for key, size in zip(own, _sizes(server, own), strict=True):
            if size is None:
                continue  # its life has ended since
            of_histories = lengths.get(key, 0)
            self._add(kinds[key], scale, scale * (size - of_histories))
            if of_histories:
                self._add(Kind.HISTORIES, scale, scale * of_histories)
        # Whose size is nobody's business who has no right to it.
        self._add(Kind.FOREIGN, scale * sum(kinds[key] is Kind.FOREIGN for key in drawn), 0.0)

    def _history_bytes(self, server: redis.Redis, users: Sequence[bytes]) -> dict[bytes, int]:
        asked = [(key, field) for key in users for field in self._history_fields]
        found: defaultdict[bytes, int] = defaultdict(int)
        for (key, _), length in zip(asked, _ask(server, asked, lambda pipe, of: pipe.hstrlen(*of)), strict=True):
            found[key] += length
        return found

    def _add_partitions(self) -> None:
        """What each partition has one key of."""
        step = -(-self._num_partitions // _MOST)
        chosen = range(0, self._num_partitions, step)
        scale = self._num_partitions / len(chosen)
        names = [key.encode() for p in chosen for key in keys_of_partition(self._keys, p)]
        for key, size in zip(names, _sizes(self._client, names), strict=True):
            if size is not None:
                self._add(kind_of(self._keys.prefix, key), scale, scale * size)

    def _add_weights(self) -> None:
        """Chunks, of which there may be many, and what says which are in force."""
        keys = self._keys
        count: Any = self._client.scard(keys.chunks)
        chunks: Any = self._client.srandmember(keys.chunks, _MOST)
        names = [keys.blob(name.decode()).encode() for name in chunks]
        found = [size for size in _sizes(self._client, names) if size is not None]
        if found:
            self._add(Kind.WEIGHTS, count, count * sum(found) / len(found))
        single = [key.encode() for key in (keys.manifest, keys.codebooks, keys.kept_weights, keys.rollout, keys.chunks)]
        for size in _sizes(self._client, single):
            if size is not None:
                self._add(Kind.WEIGHTS, 1, size)


def _random_keys(server: redis.Redis, num_keys: int, seconds: float) -> list[bytes]:
    until, found = time.monotonic() + seconds, list[bytes]()
    while len(found) < num_keys and (not found or time.monotonic() < until):
        drawn = _ask(server, range(min(_AT_ONCE, num_keys - len(found))), lambda pipe, _: pipe.randomkey())
        found += [key for key in drawn if isinstance(key, bytes)]
        if not any(drawn):
            break
    return found


def _sizes(client: redis.Redis, keys: Iterable[bytes]) -> list[int | None]:
    """Bytes of keys; None of one that is not there."""
    return _ask(client, keys, lambda pipe, key: pipe.memory_usage(key, samples=_ENTRIES))


def _ask(client: redis.Redis, subjects: Iterable[Any], put: Any) -> list[Any]:
    """One command for each subject, some in a round trip, between which others get their turn."""
    subjects, answers = list(subjects), []
    for at in range(0, len(subjects), _AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            for subject in subjects[at : at + _AT_ONCE]:
                put(pipe, subject)
            answers += pipe.execute()
    return answers
