"""Keeps the meter's buckets: in the run folder, for a report, and in Redis, for whoever watches."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stream.monitor.bucket import Bucket
from stream.monitor.history import HistoryWriter
from stream.monitor.meter import Meter


def run_name(folder: Path, now_ms: int) -> str:
    """Name of the learner run in a folder: made at its first start, the same at every later one."""
    file = folder / "monitor" / "name"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{folder.name}-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S}Z")
    return file.read_text().strip()


class Recorder:
    """Writes what the meter has, checkpoint by checkpoint.

    Args:
        meter: whose buckets.
        folder: run folder.
        keep: newest files kept.
        history: opens the history in Redis, if there is to be one.
    """

    def __init__(
        self, meter: Meter, folder: Path, *, keep: int, history: Callable[[], HistoryWriter] | None = None
    ) -> None:
        self._meter = meter
        self._folder = folder / "monitor"
        self._keep = keep
        self._history = history() if history else None
        self._waiting: list[Bucket] = []

    def rewind(self, number: int) -> None:
        """Forget everything behind checkpoint `number`."""
        for path in self._folder.glob("*.msgpack"):
            if int(path.stem) > number:
                path.unlink()

    def write(self, number: int, now_ms: int) -> None:
        """Write what belongs to checkpoint `number`; before it is durable, and again if it was not."""
        self._waiting += self._meter.cut(now_ms)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{number:012d}.msgpack"
        temporary = path.with_suffix(".part")
        temporary.write_bytes(msgspec.msgpack.encode([bucket.encode() for bucket in self._waiting]))
        temporary.rename(path)
        for old in sorted(self._folder.glob("*.msgpack"))[: -self._keep]:
            old.unlink()
        if self._history is not None:
            self._history.write(number, self._waiting)
        self._waiting = []


def read_buckets(folder: Path) -> list[Bucket]:
    """Every bucket of a run folder, oldest first."""
    files = sorted((folder / "monitor").glob("*.msgpack"))
    return [Bucket.decode(blob) for f in files for blob in msgspec.msgpack.decode(f.read_bytes(), type=list[bytes])]
