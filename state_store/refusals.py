"""What a Redis that answers, but says no, means, and what to do about it.

Redis names its reason by a first word: `OOM command not allowed when used memory > 'maxmemory'`. A refusal inside a Lua
script carries it further back in the message. A script is refused before its first write or not at all, so that nothing
is half done.
"""

import re

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)

ADVICE = {
    "OOM": "Redis is full: raise its maxmemory; where samples wait in the outbox, the learner makes room as it learns",
    "READONLY": "this Redis is a replica and takes no writes: wait for the failover to end, or point redis.url to the "
    "primary",
    "MISCONF": "Redis cannot save to its disk: make room there, or mend its rights; see INFO persistence",
    "NOREPLICAS": "Redis has fewer replicas than its min-replicas-to-write asks for: bring them back",
    "LOADING": "Redis is reading its data back; it answers once it has them all",
    "CLUSTERDOWN": "the Redis Cluster lacks nodes for some slots: bring them back",
    "MASTERDOWN": "this replica has lost its primary: bring it back, or fail over",
    "TRYAGAIN": "the Redis Cluster is moving slots",
    "BUSY": "Redis is busy with another client's script: SCRIPT KILL ends that, or wait",
    "NOPERM": "give this user the right (ACL SETUSER); OPERATIONS.md lists those that are needed",
}
"""Redis' word for a refusal -> what it means and what to do."""

_WORD = re.compile(rf"(?:^|[\s:-])({'|'.join(ADVICE)})\b")
# Redis 6.2 has no word for it inside a script.
_NO_RIGHT = re.compile(r"can't (?:run this command|access|publish to the channel)|no permissions")
_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (ClusterDownError, "CLUSTERDOWN"),
    (MasterDownError, "MASTERDOWN"),
    (TryAgainError, "TRYAGAIN"),
    (NoPermissionError, "NOPERM"),
)
_AWAY = (redis.ConnectionError, redis.TimeoutError, ClusterError, RedisClusterException)


def refusal(exc: BaseException) -> str:
    """Redis' word for why it refused; empty if it did not, or if the fault is ours.

    >>> refusal(redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it is unable to persist"))
    'MISCONF'
    >>> refusal(redis.ResponseError("Error running script (call to f_1): @user_script:7: -OOM command not allowed"))
    'OOM'
    >>> refusal(redis.ResponseError("wrong number of arguments for 'get' command"))
    ''
    """
    for kind, word in _BY_CLASS:
        if isinstance(exc, kind):
            return word
    if not isinstance(exc, redis.ResponseError):
        return ""
    found = _WORD.search(str(exc))
    if found is None and _NO_RIGHT.search(str(exc)):
        return "NOPERM"
    return found[1] if found else ""


def is_weather(exc: BaseException) -> bool:
    """Whether the error passes by itself or by somebody's mending the servers: wait, and try again.

    >>> is_weather(redis.ConnectionError("refused")), is_weather(redis.ReadOnlyError("read only replica"))
    (True, True)
    >>> is_weather(redis.DataError("not a string"))
    False
    """
    return isinstance(exc, _AWAY) or bool(refusal(exc))


def told(exc: BaseException) -> str:
    """The error in words for people.

    >>> told(redis.ReadOnlyError("You can't write against a read only replica.")).split(":")[0]
    'redis refuses (READONLY)'
    """
    if isinstance(exc, AuthenticationError):
        return f"redis refuses the login ({exc}): correct user and password in redis.url, or on the server"
    word = refusal(exc)
    if word == "NOPERM":
        # It names the command or the key.
        return f"redis refuses ({word}): this user lacks a right ({exc}); {ADVICE[word]}"
    return f"redis refuses ({word}): {ADVICE[word]}" if word else f"redis does not answer ({exc})"
