"""Connections to Redis, with errors for people."""

import ssl
from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.commands.core import Script
from redis.retry import Retry

from state_store.address.redis_url import masked_url
from state_store.config import RedisSettings
from state_store.errors import OperatorError
from state_store.refusals import ADVICE, refusal

_LUA = files("state_store") / "lua"
AsyncRedis = Any
"""A client for an event loop; the two classes share no base that knows their commands."""


class RedisUnavailableError(OperatorError):
    """Redis does not answer at the configured address."""


def connect(settings: RedisSettings) -> redis.Redis:
    """Open a connection pool and check that the server answers; for a node of a Redis Cluster, pools to all of them.

    Raises:
        RedisUnavailableError: nothing answers at `redis.url`, or it refuses.
    """
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        **_tls_options(settings),
    }
    try:
        client = redis.Redis.from_url(settings.url, **options)
        client.ping()
        if _is_cluster(client):
            client.close()
            # The same commands by another class: every call of ours keeps to one slot, or is split by node.
            client = cast(redis.Redis, RedisCluster.from_url(settings.url, **options))
    except (redis.RedisError, ValueError, OSError) as exc:
        raise RedisUnavailableError(
            f"redis.url {masked_url(settings.url)!r}: no usable Redis there ({exc}). {_advice(exc, settings.url)}"
        ) from exc
    return client


def connect_on_loop(settings: RedisSettings, client: redis.Redis) -> AsyncRedis:
    """A client for an event loop to the server, or cluster, that a client is connected to. It connects when asked."""
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        **_tls_options(settings),
    }
    if isinstance(client, RedisCluster):
        return AsyncRedisCluster.from_url(settings.url, **options)
    return redis.asyncio.Redis.from_url(settings.url, retry=AsyncRetry(NoBackoff(), 0), **options)


async def drop_idle(client: AsyncRedis) -> None:
    """Close the connections that nobody uses.

    What a server that went away has closed is only seen by whoever uses it next: each of them would fail one more call,
    long after the server is back. A cluster's client tries again by itself.
    """
    if isinstance(client, redis.asyncio.Redis):
        with suppress(redis.RedisError, OSError):
            await client.connection_pool.disconnect(inuse_connections=False)


def _tls_options(settings: RedisSettings) -> dict[str, Any]:
    named = {
        "ssl_ca_certs": settings.ca_file,
        "ssl_certfile": settings.cert_file,
        "ssl_keyfile": settings.key_file,
    }
    return {name: value for name, value in named.items() if value}


def _is_cluster(client: redis.Redis) -> bool:
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except redis.ResponseError:
        # A user who may not ask; a cluster would then answer the first call with where to go instead.
        return False


def _advice(exc: Exception, url: str) -> str:
    cause = exc.__cause__ or exc.__context__ or exc
    if word := refusal(exc):
        return f"{ADVICE[word][0].upper()}{ADVICE[word][1:]}."
    if url.startswith("unix:"):
        return "Start Redis with that `unixsocket`, or correct the URL."
    if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return "Set redis.ca_file to the PEM file of the authority that signed its certificate."
    if isinstance(cause, FileNotFoundError | PermissionError):
        return "Correct redis.ca_file, redis.cert_file or redis.key_file."
    return "Start Redis (6.2 or newer) or correct the URL; an empty URL starts an embedded one."


def script(client: redis.Redis, name: str) -> Script:
    """Register one of this package's Lua scripts."""
    return client.register_script(script_text(name))


def script_text(name: str, lua: Traversable = _LUA) -> str:
    """A Lua script: a file, or a folder of files that are put together by name.

    Args:
        name: of the script.
        lua: folder of scripts; default: this package's.
    """
    folder = lua / name
    parts = sorted(folder.iterdir(), key=lambda part: part.name) if folder.is_dir() else [lua / f"{name}.lua"]
    return "".join(part.read_text(encoding="utf-8") for part in parts)
