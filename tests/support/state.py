"""Everything that a pipeline has in Redis, as values that can be compared."""

from typing import Any

import msgspec
import redis

_OF_CLOCK = ("renewed", "seen:", "moved:")
"""What the wall clock decides."""


def state_of(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """Value by key, without the prefix; what is packed in an order that does not matter is unpacked."""
    keys = [key.decode() for key in client.scan_iter(f"{prefix}:*", count=1000)]
    return {key.removeprefix(prefix): _value(client, key) for key in keys}


def _value(client: Any, key: str) -> Any:
    kind = client.type(key)
    if kind == b"hash":
        return _fields(key, {name.decode(): value for name, value in client.hgetall(key).items()})
    if kind == b"zset":
        return client.zrange(key, 0, -1, withscores=True)
    if kind == b"set":
        return sorted(client.smembers(key))
    if kind == b"stream":
        # The ids of what was given up are by the clock.
        is_dead = key.endswith(":dead")
        return [_dead(fields) if is_dead else (number, fields) for number, fields in client.xrange(key)]
    return client.get(key)


def _fields(key: str, found: dict[str, bytes]) -> dict[str, Any]:
    if key.endswith(":waiting"):
        return {name: msgspec.msgpack.decode(value) if name else value for name, value in sorted(found.items())}
    return {
        name: _ordered(msgspec.json.decode(value)) if name.startswith("claims:") else value
        for name, value in sorted(found.items())
        if not name.startswith(_OF_CLOCK)
    }


def _dead(fields: dict[bytes, bytes]) -> dict[bytes, Any]:
    return {**fields, b"event": _ordered(msgspec.msgpack.decode(fields[b"event"]))}


def _ordered(found: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(found.items()))
