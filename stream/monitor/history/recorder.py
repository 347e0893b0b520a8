"""Keeps a meter's buckets: in the run folder, for a report, and in Redis, for whoever watches."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stream.monitor.figures.bucket import Bucket
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import COHORTS, HistoryWriter


def run_name(folder: Path, now_ms: int) -> str:
    """Name of the learner run in a folder: made at its first start, the same at every later one."""
    file = folder / "monitor" / "name"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{folder.name}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S}Z", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


class Recorder:
    """Writes what the meter has, checkpoint by checkpoint.

    Args:
        meter: whose buckets.
        folder: run folder, if there is one within reach.
        keep: newest files kept.
        history: opens the history in Redis, if there is to be one.
        series: what kind of figures.
        number: the checkpoint that the learner resumed from: files behind it are forgotten.
    """

    def __init__(
        self,
        meter: Meter,
        folder: Path | None,
        *,
        keep: int,
        history: Callable[[], HistoryWriter] | None = None,
        series: str = COHORTS,
        number: int | None = None,
    ) -> None:
        self._meter = meter
        self._folder = None if folder is None else _folder(folder, series)
        self._keep = keep
        self._open_history = history
        self._history: HistoryWriter | None = None
        self._waiting: list[Bucket] = []
        if number is not None:
            for path in _files(self._folder):
                if int(path.stem) > number:
                    path.unlink()
        self.open_history()

    def open_history(self) -> None:
        """Look at the history in Redis; what an older snapshot of it lacks is written again from the run folder."""
        if self._open_history is None:
            return
        self._history = self._open_history()
        newest = self._history.newest
        for path in _files(self._folder):
            if int(path.stem) > newest:
                self._history.write(int(path.stem), _read(path))

    def write(self, number: int, now_ms: int) -> None:
        """Write what belongs to checkpoint `number`; before it is durable, and again if it was not."""
        self._waiting += self._meter.cut(now_ms)
        if not self._waiting:
            return
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{number:012d}.msgpack"
            temporary = path.with_suffix(".part")
            temporary.write_bytes(msgspec.msgpack.encode([bucket.encode() for bucket in self._waiting]))
            temporary.rename(path)
            for old in _files(self._folder)[: -self._keep]:
                old.unlink()
        if self._history is not None:
            self._history.write(number, self._waiting)
        self._waiting = []


def read_buckets(folder: Path, series: str = COHORTS, *, newest: int | None = None) -> list[Bucket]:
    """Buckets of one series of a run folder, oldest first: all, or those of its newest files."""
    return [bucket for path in _files(_folder(folder, series))[-newest if newest else 0 :] for bucket in _read(path)]


def _folder(folder: Path, series: str) -> Path:
    return folder / "monitor" / series


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else sorted(folder.glob("*.msgpack"))


def _read(path: Path) -> list[Bucket]:
    return [Bucket.decode(blob) for blob in msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])]
