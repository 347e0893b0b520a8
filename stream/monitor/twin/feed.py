"""Samples on their way from the learner to the frozen twin: a share of users, checkpoint by checkpoint.

A field of a Redis hash holds the samples of one checkpoint, under its number, and is written before the checkpoint. The
twin takes a field once its checkpoint is durable. So a learner that dies in between overwrites what it had written,
and each sample is scored once. A Redis that refuses holds up nothing: the samples wait in memory, and if the learner
dies before Redis takes them, the next one counts them as dropped.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import redis

from learner.sample import Sample
from state_store.keys import Keys

_DURABLE = b"durable"
_DROPPED = b"dropped"
_MAX_WAITING = 60
"""Checkpoints whose samples wait for a monitor, or for Redis; beyond, the oldest are dropped, and counted."""
_HASHES = 1 << 32


def in_share(user: int, share: float) -> bool:
    """Whether a user, by its hash, is among the share that the twin scores.

    >>> in_share(1 << 31, 0.3), in_share(1 << 29, 0.3)
    (False, True)
    """
    return user < share * _HASHES


class Scored(msgspec.Struct, frozen=True, array_like=True):
    """A sample, and what the learner predicted before learning from it."""

    sample: Sample
    prediction: float


class TwinFeed:
    """The learner's side.

    Args:
        client: Redis.
        prefix: of its keys.
        run: name of the learner run.
        share: of the users, 0 to 1.
        number: the checkpoint that the learner resumed from: what lies behind it is forgotten.
    """

    def __init__(self, client: redis.Redis, prefix: str, run: str, share: float, number: int = 0) -> None:
        self._client = client
        self._key = Keys(prefix).monitor_feed(run)
        self._share = share
        self._resumed: int | None = number
        self._waiting: list[Scored] = []
        """Of the checkpoint that is not durable yet."""
        self._written = 0
        self._unsent: deque[tuple[int, bytes | None]] = deque()
        """Durable, and not said to be so in Redis; with the samples, if Redis has not taken them."""
        self._dropped = 0

    def observe(self, samples: Sequence[Sample], predictions_N: np.ndarray, hashes: Sequence[int]) -> None:
        """Take N samples in; hashes are those of their users."""
        for n, user in enumerate(hashes):
            if in_share(user, self._share):
                self._waiting.append(Scored(samples[n], float(predictions_N[n])))

    def _open(self) -> None:
        """Forget everything behind the checkpoint resumed from; what Redis never got of those before it is dropped."""
        if self._resumed is None:
            return
        numbers = _numbers(self._client.hkeys(self._key))
        behind = [number for number in numbers if number > self._resumed]
        if behind:
            self._client.hdel(self._key, *map(str, behind))
        known = int(self._client.hget(self._key, _DURABLE) or self._resumed)
        self._dropped += len(set(range(known + 1, self._resumed + 1)) - set(numbers))
        # What the last learner wrote, and died before it said that it is durable, waits no longer.
        self._unsent.appendleft((self._resumed, None))
        self._resumed = None

    def write(self, number: int) -> None:
        """Write what belongs to checkpoint `number`, before it is durable, and again if it was not.

        If Redis refuses, or this is not called at all, it goes with `send`; if the learner dies before, it is lost.
        """
        self._open()
        self._client.hset(self._key, str(number), self._encoded())
        self._written = number

    def _encoded(self) -> bytes:
        return msgspec.msgpack.encode(self._waiting)

    def durable(self, number: int) -> None:
        """Checkpoint `number` is durable; nothing of it will come again."""
        self._unsent.append((number, None if self._written == number else self._encoded()))
        self._waiting = []
        while len(self._unsent) > _MAX_WAITING:
            _, samples = self._unsent.popleft()
            self._dropped += samples is not None

    def send(self) -> None:
        """Write what waits; what Redis refuses waits on."""
        self._open()
        while self._unsent:
            number, samples = self._unsent[0]
            fields: dict[Any, Any] = {_DURABLE: number} if samples is None else {_DURABLE: number, str(number): samples}
            self._client.hset(self._key, mapping=fields)
            self._unsent.popleft()
            surplus = _numbers(self._client.hkeys(self._key))[:-_MAX_WAITING]
            if surplus:
                self._client.hdel(self._key, *map(str, surplus))
                self._dropped += len(surplus)
        if self._dropped:
            self._client.hincrby(self._key, _DROPPED, self._dropped)
            self._dropped = 0


class TwinFeedReader:
    """The twin's side."""

    def __init__(self, client: redis.Redis, prefix: str, run: str) -> None:
        self._client = client
        self._key = Keys(prefix).monitor_feed(run)

    def waiting(self) -> list[int]:
        """Numbers of durable checkpoints whose samples wait, oldest first."""
        durable = int(self._client.hget(self._key, _DURABLE) or 0)
        return [number for number in _numbers(self._client.hkeys(self._key)) if number <= durable]

    def read(self, number: int) -> list[Scored]:
        """Samples of a checkpoint."""
        found: Any = self._client.hget(self._key, str(number))
        return msgspec.msgpack.decode(found, type=list[Scored]) if found is not None else []

    def done(self, number: int) -> None:
        """A checkpoint's samples are in the history."""
        self._client.hdel(self._key, str(number))

    def dropped(self) -> int:
        """Checkpoints whose samples were dropped, as no monitor took them, or Redis refused them for too long."""
        return int(self._client.hget(self._key, _DROPPED) or 0)


def _numbers(fields: Any) -> list[int]:
    return sorted(int(field) for field in fields if field not in (_DURABLE, _DROPPED))
