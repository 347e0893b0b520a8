"""Every entity of a partition, one after the other; for audits, not for the hot path."""

from collections.abc import Callable, Iterator
from typing import Any

import redis

_AT_ONCE = 2000


def each_below(client: redis.Redis, prefix: str, ask: Callable[[Any, bytes], object]) -> Iterator[tuple[str, Any]]:
    """Ids, and what was asked of each, in no order.

    Args:
        client: Redis.
        prefix: of the keys; ids are what stands behind it.
        ask: puts one command about a key into a pipeline.
    """
    escaped = prefix.replace("[", r"\[")
    keys = list(client.scan_iter(match=f"{escaped}*", count=5000))
    for at in range(0, len(keys), _AT_ONCE):
        some = keys[at : at + _AT_ONCE]
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                ask(pipe, key)
            found = pipe.execute()
        for key, answer in zip(some, found, strict=True):
            yield key.decode()[len(prefix) :], answer
