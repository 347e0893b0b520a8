"""Is this Redis one that the roles can work with?"""

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from state_store.address.redis_url import masked_url
from state_store.keys import Keys
from state_store.refusals import ADVICE, is_weather, refusal, told
from stream.checks.finding import Finding, bad, ok
from stream.checks.redis_memory import check_room
from stream.process.store import probe_writes
from stream.settings import Settings

_OLDEST = (6, 2)


def check_redis(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    """Version, role, memory, what happens when it is full, whether it takes writes, and the rights of this user.

    Args:
        settings: effective settings.
        client: connected.
    """
    try:
        info: Mapping[str, Any] | None = _info(client)
    except redis.ResponseError as exc:
        if refusal(exc) != "NOPERM":
            raise
        info = None
    yield _version(settings, info)
    yield from _writes(settings, client)
    if info is not None:
        yield from check_room(client)
    yield _eviction(client)
    yield from _rights(settings, client)


def _info(client: redis.Redis) -> Mapping[str, Any]:
    """Of a cluster that of one node."""
    found: Any = client.info()
    return found if "redis_version" in found else next(iter(found.values()))


def _version(settings: Settings, info: Mapping[str, Any] | None) -> Finding:
    address = masked_url(settings.redis.url)
    if info is None:
        return ok("redis", f"{address} answers; this user may not ask for its version (6.2 or newer is needed)")
    number = str(info["redis_version"])
    found = tuple(int(part) for part in number.split(".")[:2])
    said = f"{address} answers, version {number} (6.2 or newer is needed)"
    return ok("redis", said) if found >= _OLDEST else bad("redis", said)


def _writes(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    try:
        probe_writes(client, settings.redis.prefix, range(settings.kafka.partitions))
    except redis.RedisError as exc:
        if not is_weather(exc):
            raise
        yield bad("redis writes", told(exc))
    else:
        yield ok("redis writes", "taken")


def _eviction(client: redis.Redis) -> Finding:
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.ResponseError as exc:
        return ok("redis eviction", f"cannot be read here ({exc}); make sure that it is noeviction")
    if policy == "noeviction":
        return ok("redis eviction", "maxmemory-policy is noeviction")
    said = f"maxmemory-policy is {policy}: Redis would drop counters and samples when full; set noeviction"
    return bad("redis eviction", said)


def _rights(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    """Every command of the roles, on keys that do not exist; a Redis that refuses for another reason was told of."""
    key = f"{Keys(settings.redis.prefix).probe(0)}:rights"
    run: Any = client.execute_command
    channel = Keys(settings.redis.prefix).weights_channel
    lacking = []
    for command in _COMMANDS:
        arguments = [word.replace("KEY", key).replace("CHANNEL", channel) for word in command.split()]
        try:
            run(*arguments)
        except redis.RedisError as exc:
            if refusal(exc) == "NOPERM":
                lacking.append(f"{arguments[0]} ({exc})" if "key" in str(exc) else arguments[0])
    if lacking:
        yield bad("redis rights", f"this user lacks {', '.join(lacking)}; {ADVICE['NOPERM']}")
    else:
        yield ok("redis rights", "every command of the roles is allowed")


_COMMANDS = (
    "GET KEY",
    "SET KEY 1 PX 1",
    "INCR KEY",
    "DEL KEY",
    "EXPIRE KEY 1",
    "PERSIST KEY",
    "COPY KEY KEY:copy",
    "HGET KEY f",
    "HMGET KEY f",
    "HGETALL KEY",
    "HKEYS KEY",
    "HVALS KEY",
    "HEXISTS KEY f",
    "HLEN KEY",
    "HSET KEY f 1",
    "HSETNX KEY f 1",
    "HINCRBY KEY f 1",
    "HDEL KEY f",
    "SADD KEY 1",
    "SMEMBERS KEY",
    "SREM KEY 1",
    "ZADD KEY 1 1",
    "ZSCORE KEY 1",
    "ZRANGE KEY 0 0",
    "ZRANGEBYSCORE KEY 0 0",
    "ZCOUNT KEY 0 0",
    "ZREM KEY 1",
    "XADD KEY MAXLEN 0 * f 1",
    "XRANGE KEY - + COUNT 1",
    "XDEL KEY 1-1",
    "XTRIM KEY MAXLEN 0",
    "DEL KEY",
    "PUBLISH CHANNEL probe",
    "EVAL return(1) 0",
    "EVALSHA 0000000000000000000000000000000000000000 0",
    "SCRIPT EXISTS 0000000000000000000000000000000000000000",
)
