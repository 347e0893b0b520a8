"""Connections to Redis, with errors for people."""

from importlib.resources import files
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from state_store.config import RedisSettings
from state_store.errors import OperatorError

TRANSIENT_ERRORS = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
"""What passes when Redis comes back: worth another attempt."""


class RedisUnavailableError(OperatorError):
    """Redis does not answer at the configured address."""


def masked_url(url: str) -> str:
    """The URL with its password hidden.

    >>> masked_url("redis://user:secret@db:6379/0")
    'redis://user:***@db:6379/0'
    >>> masked_url("redis://db:6379")
    'redis://db:6379'
    """
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rsplit("@", 1)[1]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def connect(settings: RedisSettings) -> redis.Redis:
    """Open a connection pool and check that the server answers.

    Raises:
        RedisUnavailableError: nothing answers at `redis.url`, or it refuses.
    """
    try:
        client = redis.Redis.from_url(
            settings.url,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        client.ping()
    except (redis.RedisError, ValueError, OSError) as exc:
        raise RedisUnavailableError(
            f"redis.url {masked_url(settings.url)!r}: no usable Redis there ({exc}). "
            "Start Redis (6.2 or newer) or correct the URL; an empty URL starts an embedded one."
        ) from exc
    return client


def script(client: redis.Redis, name: str) -> Script:
    """Register one of this package's Lua scripts."""
    return client.register_script((files("state_store") / f"{name}.lua").read_text())
