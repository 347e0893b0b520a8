"""The samples of a run in a file, in the order in which it learned them: every variant then trains on the very same.

file    header: JSON, one line | entries
entry   length, 4 bytes little endian | bytes of one entry of the outbox
"""

import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np

from learner.samples.columns import Samples, concatenate, decode
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import NOW_MS, Backtest, BacktestSettings
from state_store.embedded.redis import EmbeddedRedis
from state_store.errors import OperatorError
from state_store.records import OutboxRead
from stream.settings import Settings, load_settings

_LENGTH = struct.Struct("<I")


class RecordingError(OperatorError):
    """A file of samples is of another log, or of other settings."""


class Header(msgspec.Struct, frozen=True):
    """What was recorded."""

    log: str
    source: str
    replay: dict[str, Any]
    join: dict[str, Any]
    num_samples: int = 0
    task: str = ""
    """That labels are of; empty for the one that the log itself calls its main task."""


def own_task(log: Log) -> str:
    """Name of the task that a log itself calls its main one."""
    return load_settings(environment={}, defaults=log.settings).main_task.name


def obtain(settings: Settings, log: Log, how: ReplaySettings, folder: Path, told: Callable[[str], None]) -> "Recording":
    """The recording of a log from a folder; made if it is not there, which takes as long as a backtest.

    Args:
        settings: effective settings.
        log: what is recorded.
        how: how it is replayed.
        folder: where recordings are kept.
        told: is told what is done, if something is.

    Raises:
        RecordingError: one is there, and is another.
    """
    task = _other_task(settings, log)
    name = f"{log.name}{'-' if task else ''}{task}-{how.num_rows}-settle-{settings.join.settle_ms}"
    if settings.histories != load_settings(environment={}, defaults=log.settings).histories:
        name += "".join(f"-{history.name}-{history.length}" for history in settings.histories)
    name += ".samples"
    path = folder / name
    if not path.exists():
        told(f"recording {name}")
        record(settings, log, how, path)
    recording = Recording(path, settings)
    recording.check(log, how)
    return recording


def record(settings: Settings, log: Log, how: ReplaySettings, path: Path) -> None:
    """Run a log through a backtest, and keep every entry of its outbox.

    The backtest learns as always, so that norms flow back into the states that samples carry.

    Args:
        settings: effective settings; it brings a Redis of its own.
        log: what is replayed.
        how: how.
        path: the file; written whole or not at all.
    """
    monitor = msgspec.structs.replace(settings.monitor, enabled=False)
    half = path.with_suffix(".part")
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder, half.open("w+b") as file:
        redis = msgspec.structs.replace(settings.redis, url=server.url)
        live = msgspec.structs.replace(settings, redis=redis, monitor=monitor)
        run = Backtest(live, BacktestSettings(), Path(folder), NOW_MS)
        _keep_what_is_read(run, file)
        file.write(_head(settings, log, how, 0))
        run.run(Replay(log, how, live.kafka.partitions, live.join, live.horizon_ms).whole_log())
        head = _head(settings, log, how, run.trainer.num_trained)
        file.seek(0)
        file.write(head)
    half.replace(path)


def _keep_what_is_read(run: Backtest, file: BinaryIO) -> None:
    outbox = run._outbox
    read = outbox.read

    def kept(cursor: Mapping[int, int], *, max_entries: int) -> OutboxRead:
        found = read(cursor, max_entries=max_entries)
        for entry in found.entries:
            file.write(_LENGTH.pack(len(entry.payload)))
            file.write(entry.payload)
        return found

    outbox.read = kept  # type: ignore[method-assign]


def _head(settings: Settings, log: Log, how: ReplaySettings, num_samples: int) -> bytes:
    # Of one length, whatever the number is: it is written last.
    return msgspec.json.encode(_header(settings, log, how, num_samples)).ljust(4095) + b"\n"


def _header(settings: Settings, log: Log, how: ReplaySettings, num_samples: int) -> Header:
    join, task = msgspec.to_builtins(settings.join), _other_task(settings, log)
    return Header(log.name, log.source, msgspec.to_builtins(how), join, num_samples, task)


def _other_task(settings: Settings, log: Log) -> str:
    return "" if settings.main_task.name == own_task(log) else settings.main_task.name


class Recording:
    """Samples from a file, as often as they are asked for.

    Args:
        path: the file.
        settings: with the fields and actions that it was recorded with.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self.settings = path, settings
        with path.open("rb") as file:
            line = file.readline()
        self.header = msgspec.json.decode(line, type=Header)
        self._begin = len(line)

    def check(self, log: Log, how: ReplaySettings) -> None:
        """Whether it is what would be recorded now.

        Raises:
            RecordingError: it is not.
        """
        wanted = _header(self.settings, log, how, 0)
        if msgspec.structs.replace(self.header, num_samples=0) != wanted:
            raise RecordingError(
                f"{self._path} is of another log, replay, task or [join]; remove it, or give another folder"
            )

    def blocks(self, size: int) -> Iterator[Samples]:
        """All samples in order, in blocks of exactly `size` but the last one."""
        waiting: list[Samples] = []
        num_waiting = 0
        for samples in self._entries():
            waiting.append(samples)
            num_waiting += len(samples)
            if num_waiting >= size:
                whole = concatenate(waiting)
                full = num_waiting // size * size
                for begin in range(0, full, size):
                    yield whole.slice(begin, begin + size)
                waiting, num_waiting = [whole.slice(full, num_waiting)], num_waiting - full
        if num_waiting:
            yield concatenate(waiting)

    def _entries(self) -> Iterator[Samples]:
        layout = self.settings.recipe.layout
        with self._path.open("rb") as file:
            file.seek(self._begin)
            while head := file.read(_LENGTH.size):
                yield decode(file.read(_LENGTH.unpack(head)[0]), layout)


class Stream(Protocol):
    """Samples in their order, and the settings that they were made with."""

    settings: Settings

    def blocks(self, size: int) -> Iterator[Samples]:
        """All samples in order, in blocks of at most `size`."""


class Columns(msgspec.Struct, frozen=True):
    """What a whole recording says of its T samples, without their values."""

    kinds_T: np.ndarray
    labels_T: np.ndarray
    impressions_T: np.ndarray
    """Keys of the impressions."""
    users_T: np.ndarray
    """Keys of the users."""
    user_counts_T: np.ndarray
    item_counts_T: np.ndarray
    """Earlier impressions."""
    rates_T: np.ndarray
    """Share of the negatives that are kept."""
    entries_T: np.ndarray
    """How many entries the first history has; 0 where there is none."""


def columns_of(recording: Recording) -> Columns:
    """Read a recording through."""
    found: list[tuple[np.ndarray, ...]] = []
    for samples in recording.blocks(1 << 14):
        rows = samples.rows_B
        found.append(
            (
                rows["kind"].copy(),
                rows["label"].copy(),
                rows["imp_key"].copy(),
                samples.user_keys.copy(),
                rows["user_counts"][:, 0].copy(),
                rows["item_counts"][:, 0].copy(),
                rows["negative_rate"].copy(),
                rows["history_sizes"][:, 0].copy() if samples.layout.histories else np.zeros(len(rows), np.uint16),
            )
        )
    return Columns(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
