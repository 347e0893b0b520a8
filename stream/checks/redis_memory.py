"""Is there room left in Redis, and what takes it?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis

from state_store.memory.estimate import Estimator, MemoryEstimate, masters
from state_store.refusals import ADVICE
from state_store.states import StateStore
from stream.checks.finding import Finding, bad, degraded, ok
from stream.process.store import open_store
from stream.settings import Settings

_FULL = 0.9
"""Share of maxmemory from which on it is told."""
_FRAGMENTED = 1.5
"""Memory that the system gave, as a multiple of what is used, from which on it is told."""
_MATTERS = 512 * 2**20
"""Bytes that must be lost to fragmentation: a small server always looks fragmented."""
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def check_room(client: redis.Redis) -> Iterator[Finding]:
    """Memory used and its limit; on a cluster of the master that is nearest to it.

    Raises:
        redis.RedisError: a server does not answer, or refuses.
    """
    yield from room([server.info("memory") for server in masters(client)])


def room(servers: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """The same of what the servers say.

    Args:
        servers: `INFO memory` of each.

    >>> next(room([{"used_memory": 95, "maxmemory": 100}])).level
    <Level.DEGRADED: 'degraded'>
    """
    used, limits = [int(s.get("used_memory", 0)) for s in servers], [int(s.get("maxmemory", 0)) for s in servers]
    limited = [(u / limit, u, limit) for u, limit in zip(used, limits, strict=True) if limit]
    among = f" on {len(servers)} masters" if len(servers) > 1 else ""
    if not limited:
        yield ok("redis memory", f"{readable(sum(used))} used{among}, no maxmemory")
    else:
        share, most, limit = max(limited)
        said = f"{readable(most)} of {readable(limit)} used{', of the fullest' + among if among else ''}"
        if share >= 1:
            yield bad("redis memory", f"{said}: {ADVICE['OOM']}")
        elif share >= _FULL:
            yield degraded("redis memory", f"{said}: raise maxmemory before it is full")
        else:
            yield ok("redis memory", said)
    for server, bytes_used in zip(servers, used, strict=True):
        given = int(server.get("used_memory_rss", 0))
        if given > _FRAGMENTED * bytes_used and given - bytes_used > _MATTERS:
            yield degraded(
                "redis fragmentation",
                f"{readable(bytes_used)} used take {readable(given)} of the system's memory; `MEMORY PURGE`, "
                "`activedefrag yes` where its allocator is jemalloc, or a restart at a quiet time gives it back",
            )


def check_kinds(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    """What takes the memory.

    Args:
        settings: effective settings.
        client: connected.

    Raises:
        redis.RedisError: a server does not answer, or refuses.
    """
    found = estimate_memory(open_store(settings, client), settings.kafka.partitions)
    if not found.kinds:
        yield ok("redis kinds", "nothing is kept yet")
        return
    rows = [f"{row.kind.value} {readable(row.num_bytes)}" for row in found.kinds if row.num_bytes]
    each = [
        f"{said} takes {size:.0f} bytes"
        for said, size in (("a user", found.user_bytes), ("an item in a partition", found.item_bytes))
        if size is not None
    ]
    how = "" if found.is_whole else f"estimated from {found.num_drawn} keys: "
    yield ok("redis kinds", how + ", ".join(rows) + "".join(f"; {part}" for part in each))


def estimate_memory(store: StateStore, num_partitions: int) -> MemoryEstimate:
    """What takes the memory, as data.

    Args:
        store: of the pipeline.
        num_partitions: P.

    Raises:
        redis.RedisError: a server does not answer, or refuses.
    """
    return Estimator(store.client, store.keys.prefix, num_partitions, store.histories.fields).look()


def readable(num_bytes: float) -> str:
    """Bytes in a unit that people read.

    >>> readable(3 * 2**20), readable(700)
    ('3.0 MiB', '700 bytes')
    """
    for size, unit in _UNITS:
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"
