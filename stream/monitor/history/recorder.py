"""Keeps a meter's buckets: in the run folder, for a report, and in Redis, for whoever watches.

The two are apart: a Redis that refuses the history holds up nothing, and gets it from the run folder later.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec

from learner.files import forget_parts, remove, write_whole
from stream.monitor.figures.bucket import Bucket
from stream.monitor.history.history import COHORTS, HistoryWriter

_MOST_UNSENT = 1000
"""Checkpoints whose buckets wait in memory for a Redis that refuses them."""


def run_name(folder: Path, now_ms: int) -> str:
    """Name of the learner run in a folder: made at its first start, the same at every later one."""
    file = folder / "monitor" / "name"
    if not file.exists():
        name = f"{folder.name}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S}Z"
        write_whole(file, [name.encode()])
    return file.read_text(encoding="utf-8").strip()


class Source(Protocol):
    """Has buckets."""

    def cut(self, now_ms: int) -> list[Bucket]:
        """Those since the last call, the open one with them."""


class Recorder:
    """Writes what the meter has, checkpoint by checkpoint.

    Args:
        meter: has the buckets.
        folder: run folder, if there is one within reach.
        keep: newest files kept.
        history: opens the history in Redis, if there is to be one; it forgets what lies behind the checkpoint named.
        series: what kind of figures.
        number: the checkpoint that the learner resumed from: files behind it are forgotten.
    """

    def __init__(
        self,
        meter: Source,
        folder: Path | None,
        *,
        keep: int,
        history: Callable[[int], HistoryWriter] | None = None,
        series: str = COHORTS,
        number: int | None = None,
    ) -> None:
        self._meter = meter
        self._folder = None if folder is None else _folder(folder, series)
        self._keep = keep
        self._open_history = history
        self._history: HistoryWriter | None = None
        self._cut: list[Bucket] = []
        """Of the checkpoint that is not durable yet."""
        self._unsent: deque[tuple[int, list[Bucket]]] = deque(maxlen=_MOST_UNSENT)
        """Durable, and not in the history."""
        self._opened = False
        self._resumed = number
        newest = max((int(path.stem) for path in _files(self._folder)), default=0)
        self._number = newest if number is None else number
        if number is not None and self._folder is not None:
            forget_parts(self._folder)
            for path in _files(self._folder):
                if int(path.stem) > number:
                    path.unlink()

    def open_history(self) -> None:
        """Look at the history in Redis; what it lacks of what is durable is written from the run folder."""
        if self._open_history is None:
            return
        # The first time nothing behind the checkpoint that was resumed from counts, whatever became durable since.
        resumed = None if self._opened else self._resumed
        history = self._open_history(self._number if resumed is None else resumed)
        self._opened = True
        newest = history.newest
        waiting = {number for number, _ in self._unsent}
        for path in _files(self._folder):
            number = int(path.stem)
            if newest < number <= self._number and number not in waiting:
                history.write(number, _read(path))
        self._history = history

    def look_again(self) -> None:
        """Redis may have lost a part of the history: look at it anew before more is written."""
        self._history = None

    def cut(self, number: int, now_ms: int) -> None:
        """Write what belongs to checkpoint `number` to the run folder, before it is durable, and again if it was not.

        Raises:
            OSError: it cannot be written; nothing is lost.
        """
        self.collect(now_ms)
        self.write_collected(number)

    def collect(self, now_ms: int) -> None:
        """What was summed up so far belongs to the next checkpoint."""
        self._cut += self._meter.cut(now_ms)

    def write_collected(self, number: int) -> None:
        """Write what belongs to checkpoint `number` to the run folder; more may be summed up meanwhile.

        Raises:
            OSError: it cannot be written; nothing is lost.
        """
        if self._folder is not None and self._cut:
            body = msgspec.msgpack.encode([bucket.encode() for bucket in self._cut])
            write_whole(self._folder / f"{number:012d}.msgpack", [body])

    def durable(self, number: int) -> None:
        """Checkpoint `number` is durable: what belongs to it may go to the history."""
        if self._cut:
            if len(self._unsent) == _MOST_UNSENT:
                # The oldest goes; the run folder has it, so the history is looked through anew.
                self._history = None
            self._unsent.append((number, self._cut))
        self._cut, self._number = [], number
        remove(_files(self._folder)[: -self._keep])

    def send(self) -> None:
        """Write what waits to the history; what Redis refuses waits on."""
        if self._open_history is None:
            self._unsent.clear()
        elif self._history is None:
            self.open_history()
        while self._unsent and self._history is not None:
            self._history.write(*self._unsent[0])
            self._unsent.popleft()

    def write(self, number: int, now_ms: int) -> None:
        """Write what belongs to checkpoint `number`, which is durable."""
        self.cut(number, now_ms)
        self.durable(number)
        self.send()


def read_buckets(folder: Path, series: str = COHORTS, *, newest: int | None = None) -> list[Bucket]:
    """Buckets of one series of a run folder, oldest first: all, or those of its newest files."""
    return [bucket for path in _files(_folder(folder, series))[-newest if newest else 0 :] for bucket in _read(path)]


def _folder(folder: Path, series: str) -> Path:
    return folder / "monitor" / series


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(folder.glob("*.msgpack"))


def _read(path: Path) -> list[Bucket]:
    return [Bucket.decode(blob) for blob in msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])]
