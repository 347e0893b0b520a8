"""Samples on their way from the learner to the frozen twin: a share of users, checkpoint by checkpoint.

A field of a Redis hash holds the samples of one checkpoint, under its number, and is written before the checkpoint. The
twin takes a field once its checkpoint is durable. So a learner that dies in between overwrites what it had written,
and each sample is scored once. A Redis that refuses holds up nothing: the samples wait in memory and in the run
folder, from where the next learner sends them, if this one dies before Redis takes them.
"""

from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis

from learner.files import write_whole
from learner.samples.columns import Samples, concatenate, decode, no_samples
from learner.samples.layout import Layout
from state_store.keys import Keys
from stream.monitor.figures.bootstrap import hashes_of

_DURABLE = b"durable"
_DROPPED = b"dropped"
_MAX_WAITING = 60
"""Checkpoints whose samples wait for a monitor, or for Redis; beyond, the oldest are dropped, and counted."""
_HASHES = 1 << 32
_SUFFIX = ".msgpack"


def in_share(hashes: Any, share: float) -> Any:
    """Whether users, by their hashes, are among the share that the twin scores.

    >>> in_share(1 << 31, 0.3), in_share(1 << 29, 0.3)
    (False, True)
    """
    return hashes < share * _HASHES


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    samples: bytes
    predictions: bytes


class Scored(msgspec.Struct, frozen=True):
    """B samples, and what the learner predicted before learning from them."""

    samples: Samples
    predictions_B: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)


class TwinFeed:
    """The learner's side.

    Args:
        client: Redis.
        prefix: of its keys.
        run: name of the learner run.
        share: of the users, 0 to 1.
        number: the checkpoint that the learner resumed from: what lies behind it is forgotten.
        folder: where samples are kept that Redis refuses; None: they are in memory only.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        run: str,
        share: float,
        number: int = 0,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._client = client
        self._key = Keys(prefix).monitor_feed(run)
        self._share = share
        self._resumed: int | None = number
        self._waiting: list[Scored] = []
        """Of no durable checkpoint; the first `_num_cut` belong to the next one."""
        self._num_cut: int | None = None
        """Not known before they are written or kept, whichever comes first."""
        self._written = 0
        self._unsent: deque[tuple[int, bytes | None]] = deque()
        """Durable, and not said to be so in Redis; with the samples, if Redis has not taken them."""
        self._dropped = 0

    def observe(self, samples: Samples, predictions_N: np.ndarray) -> None:
        """Take N samples in."""
        chosen_N = in_share(hashes_of(samples.user_keys), self._share)
        if chosen_N.any():
            self._waiting.append(Scored(samples.take(chosen_N), predictions_N[chosen_N]))

    def _open(self) -> None:
        """Forget everything behind the checkpoint resumed from; what Redis never got of those before it is dropped."""
        if self._resumed is None:
            return
        numbers = _numbers(self._client.hkeys(self._key))
        behind = [number for number in numbers if number > self._resumed]
        if behind:
            self._client.hdel(self._key, *map(str, behind))
        marker: Any = self._client.hget(self._key, _DURABLE)
        known = self._resumed if marker is None else int(marker)
        kept = self._kept(int(marker or 0), self._resumed)
        self._dropped += len(set(range(known + 1, self._resumed + 1)) - set(numbers) - set(kept))
        # What the last learner wrote, and died before it said that it is durable, waits no longer.
        self._unsent.appendleft((self._resumed, None))
        self._unsent.extendleft((number, kept[number]) for number in sorted(kept, reverse=True))
        self._resumed = None

    def _kept(self, sent: int, resumed: int) -> dict[int, bytes]:
        """Samples that the last learner kept and had not sent, by checkpoint; all others are forgotten."""
        found = {}
        for path in [] if self._folder is None else sorted(self._folder.glob(f"*{_SUFFIX}")):
            number, samples = int(path.stem), path.read_bytes()
            taken: Any = self._client.hstrlen(self._key, str(number))
            # Redis may have taken fewer, at an earlier attempt at the same checkpoint, or more, at a later one.
            if sent < number <= resumed and len(samples) > int(taken):
                found[number] = samples
            else:
                path.unlink()
        return found

    def _file(self, number: int) -> Path | None:
        return None if self._folder is None else self._folder / f"{number:012d}{_SUFFIX}"

    def write(self, number: int) -> None:
        """Write what was taken in so far as checkpoint `number`, before it is durable, and again if it was not.

        If Redis refuses, or this is not called at all, it goes with `send`; `keep` sees to it that it is not lost if
        the learner dies before.
        """
        self._num_cut = len(self._waiting)
        self._open()
        self._client.hset(self._key, str(number), self._encoded())
        self._written = number

    def keep(self, number: int) -> None:
        """Write what was taken in so far as checkpoint `number` to the folder, before it is durable."""
        self._num_cut = len(self._waiting)
        file = self._file(number)
        if file is not None:
            write_whole(file, [self._encoded()])
        # What an earlier attempt may have written has fewer.
        self._written = 0

    def _encoded(self) -> bytes:
        cut = self._waiting[: self._num_cut]
        if not cut:
            return msgspec.msgpack.encode([])
        samples = concatenate([scored.samples for scored in cut])
        predictions = np.concatenate([scored.predictions_B for scored in cut]).astype(np.float32)
        return msgspec.msgpack.encode([_Stored(samples.encode(), predictions.tobytes())])

    def durable(self, number: int) -> None:
        """Checkpoint `number` is durable; nothing of it will come again."""
        if self._written == number:
            self._forget(number)
        self._unsent.append((number, None if self._written == number else self._encoded()))
        del self._waiting[: self._num_cut]
        self._num_cut = None
        while len(self._unsent) > _MAX_WAITING:
            dropped, samples = self._unsent.popleft()
            self._dropped += samples is not None
            self._forget(dropped)

    def send(self) -> None:
        """Write what waits; what Redis refuses waits on."""
        self._open()
        while self._unsent:
            number, samples = self._unsent[0]
            fields: dict[Any, Any] = {_DURABLE: number} if samples is None else {_DURABLE: number, str(number): samples}
            self._client.hset(self._key, mapping=fields)
            self._unsent.popleft()
            self._forget(number)
            surplus = _numbers(self._client.hkeys(self._key))[:-_MAX_WAITING]
            if surplus:
                self._client.hdel(self._key, *map(str, surplus))
                self._dropped += len(surplus)
        if self._dropped:
            self._client.hincrby(self._key, _DROPPED, self._dropped)
            self._dropped = 0

    def _forget(self, number: int) -> None:
        """Redis has the samples of a checkpoint, or nobody wants them any more."""
        file = self._file(number)
        if file is not None:
            file.unlink(missing_ok=True)


class TwinFeedReader:
    """The twin's side."""

    def __init__(self, client: redis.Redis, prefix: str, run: str) -> None:
        self._client = client
        self._key = Keys(prefix).monitor_feed(run)

    def waiting(self) -> list[int]:
        """Numbers of durable checkpoints whose samples wait, oldest first."""
        durable = int(self._client.hget(self._key, _DURABLE) or 0)
        return [number for number in _numbers(self._client.hkeys(self._key)) if number <= durable]

    def read(self, number: int, layout: Layout) -> Scored:
        """Samples of a checkpoint; none of those that another version wrote, or that have other fields.

        Args:
            number: of the checkpoint.
            layout: of the samples.
        """
        found: Any = self._client.hget(self._key, str(number))
        try:
            [stored] = msgspec.msgpack.decode(found or b"\x90", type=list[_Stored])
            samples = decode(stored.samples, layout)
        except (ValueError, msgspec.MsgspecError):
            return Scored(no_samples(layout), np.zeros(0, np.float32))
        return Scored(samples, np.frombuffer(stored.predictions, np.float32))

    def done(self, number: int) -> None:
        """A checkpoint's samples are in the history."""
        self._client.hdel(self._key, str(number))

    def dropped(self) -> int:
        """Checkpoints whose samples were dropped, as no monitor took them, or Redis refused them for too long."""
        return int(self._client.hget(self._key, _DROPPED) or 0)


def _numbers(fields: Any) -> list[int]:
    return sorted(int(field) for field in fields if field not in (_DURABLE, _DROPPED))
