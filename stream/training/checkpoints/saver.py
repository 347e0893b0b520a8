"""Writes one checkpoint at a time while training goes on, and merges segments behind that.

Files are written in threads: what takes time there (hashing, writing, waiting for the disk) is done without the
interpreter's lock, and a thread dies with its learner, so that nobody writes to a folder that another one has taken.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import numpy as np

from learner.checkpoints.folder import write_checkpoint
from learner.checkpoints.manifest import Manifest
from learner.checkpoints.merge import due, merge
from learner.checkpoints.segment import DamagedError, Segment
from learner.files import passes, told
from stream.process.failpoints import failpoint

log = logging.getLogger("coldstream.learner")

_Result = TypeVar("_Result")


class Cut(NamedTuple):
    """What training was like between two steps."""

    number: int
    """Of the checkpoint that it becomes."""
    arrays: dict[str, np.ndarray]
    """The learner's changes, or all of it."""
    meta: dict[str, Any]
    cursor: dict[int, int]
    """Partition -> last sequence that is learned, and may be trimmed."""


class _Merging(NamedTuple):
    segments: tuple[Segment, ...]
    becomes: "Future[Segment]"


class Saver:
    """Writes cuts to a folder of checkpoints.

    Args:
        folder: of the checkpoints.
        segments: those of the checkpoint that training was resumed from; none: the next cut has to be whole.
        before: writes what must be durable before checkpoint `number` is; called in a thread.
        kept: numbers of older checkpoints that stay.
    """

    def __init__(
        self,
        folder: Path,
        segments: tuple[Segment, ...],
        before: Callable[[int], None],
        kept: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._folder = folder
        self._segments = segments
        self._before = before
        self._kept = kept
        self._cut: Cut | None = None
        self._writing: Future[Manifest] | None = None
        self._merging: _Merging | None = None

    def needs_whole(self) -> bool:
        """Whether there is nothing that the next cut could build on; asked before each is taken."""
        self._take_merged()
        return not self._segments

    @property
    def is_busy(self) -> bool:
        """Whether a cut has not become a checkpoint yet."""
        return self._cut is not None

    @property
    def is_to_finish(self) -> bool:
        """Whether `finish` has something to do, and would not wait for the thread."""
        return self._cut is not None and (self._writing is None or self._writing.done())

    def begin(self, cut: Cut) -> None:
        """Write a cut; the one before has become a checkpoint."""
        assert self._cut is None
        self._cut = cut
        kept = self._kept()
        self._writing = _behind(lambda: self._write(cut, kept))

    def _write(self, cut: Cut, kept: Collection[int]) -> Manifest:
        self._before(cut.number)
        return write_checkpoint(
            self._folder, cut.number, cut.arrays, cut.meta, behind=self._segments, kept=kept, at=failpoint
        )

    def limit(self, cursor: Mapping[int, int]) -> None:
        """What lies behind `cursor` must not be trimmed, whatever was learned."""
        if self._cut is not None:
            self._cut = self._cut._replace(cursor=not_beyond(cursor, self._cut.cursor))

    def finish(self) -> tuple[Cut, Manifest] | None:
        """Wait until the cut is a checkpoint, and return it; None if there is none.

        Raises:
            OSError: it could not be written. It waits; the next call writes it again, and not in a thread.
        """
        if self._cut is None:
            return None
        writing, self._writing = self._writing, None
        made = self._write(self._cut, self._kept()) if writing is None else writing.result()
        cut, self._cut = self._cut, None
        self._segments = made.segments
        self._merge_if_due()
        return cut, made

    # Merging ----------------------------------------------------------------------------------------------------

    def _merge_if_due(self) -> None:
        begin = due(self._segments) if self._merging is None else None
        if begin is not None:
            segments = self._segments[begin:]
            becomes = _behind(lambda: merge(self._folder, segments, whole=begin == 0, at=failpoint))
            self._merging = _Merging(segments, becomes)

    def leave(self) -> None:
        """Wait until nothing is merged any more; what was made goes unused."""
        if self._merging is not None:
            self._merging.becomes.exception()
            self._merging = None

    def _take_merged(self) -> None:
        """Have the next checkpoint build on what was merged, if it is ready."""
        merging = self._merging
        if merging is None or not merging.becomes.done():
            return
        self._merging = None
        begin = self._segments.index(merging.segments[0])
        try:
            merged = merging.becomes.result()
        except DamagedError as exc:
            log.warning("%s: the next checkpoint holds everything", exc)
            self._segments = ()
        except OSError as exc:
            if not passes(exc):
                raise
            log.warning("segments are not merged, and stay as they are: %s", told(exc, self._folder))
        else:
            self._segments = (*self._segments[:begin], merged, *self._segments[begin + len(merging.segments) :])


def not_beyond(limit: Mapping[int, int], cursor: Mapping[int, int]) -> dict[int, int]:
    """A cursor that is nowhere ahead of another."""
    return {partition: min(sequence, limit.get(partition, 0)) for partition, sequence in cursor.items()}


def _behind(call: Callable[[], _Result]) -> "Future[_Result]":
    """Have something done in a thread, which ends with the process at the latest."""
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - whoever asks for the result is told
            future.set_exception(exc)

    Thread(target=run, daemon=True, name="checkpoint").start()
    return future
