"""A folder of checkpoints: each is whole, or is not there."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from learner.checkpoints import former, manifest, segment
from learner.checkpoints.former import read_former
from learner.checkpoints.manifest import Manifest, read_manifest, write_manifest
from learner.checkpoints.merge import merged
from learner.checkpoints.segment import DamagedError, Segment, column_of, read_segment, write_segment
from learner.files import forget_parts, remove


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint read back."""

    path: Path
    arrays: dict[str, np.ndarray]
    """A whole state, whatever it was put together from; some are views of files."""
    meta: dict[str, Any]
    segments: tuple[Segment, ...] = ()
    """What the next checkpoint may build on; none of one of the former version."""


def write_checkpoint(
    folder: Path,
    number: int,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    *,
    behind: Sequence[Segment] = (),
    keep: int = 2,
    kept: Collection[int] = (),
    at: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write checkpoint `number` durably, or not at all; older ones are removed behind it.

    Args:
        folder: where.
        number: its number.
        arrays: a whole state, or what has changed since the segments of `behind` were written.
        meta: what else belongs to it.
        behind: segments of an earlier one, on which it builds.
        keep: newest ones kept.
        kept: numbers of others that are kept, too.
        at: is told of each step, so that tests can die there.

    Raises:
        OSError: it cannot be written; the checkpoints that were there stay.
    """
    at("checkpoint.before_write")
    written = write_segment(
        folder,
        f"{number:012d}",
        {name: column_of(array) for name, array in arrays.items()},
        half_written=lambda: at("checkpoint.half_written"),
        before_rename=lambda: at("checkpoint.before_rename"),
    )
    made = Manifest(number, (*behind, written), dict(meta))
    write_manifest(folder, made, lambda: at("checkpoint.before_manifest"))
    _retire(folder, keep, kept)
    return made


def _retire(folder: Path, keep: int, kept: Collection[int]) -> None:
    """Remove all but the newest checkpoints and those that are kept, then the segments that only those had."""
    old = [path for path in _paths(folder)[keep:] if int(path.stem) not in kept]
    theirs = _segments_of(old)
    remove(old)
    remove(folder / name for name in theirs - _segments_of(_paths(folder)))


def sweep(folder: Path) -> None:
    """Remove what a writer that was killed has left: half-made files, and segments of no checkpoint.

    Nobody may be writing to the folder.
    """
    forget_parts(folder)
    used = _segments_of(_paths(folder))
    remove(path for path in folder.glob(f"*{segment.SUFFIX}") if path.name not in used)


def _paths(folder: Path) -> list[Path]:
    """Files that stand for checkpoints, the newest first."""
    paths = [*folder.glob(f"*{manifest.SUFFIX}"), *folder.glob(f"*{former.SUFFIX}")]
    return sorted(paths, key=lambda path: (int(path.stem), path.suffix == manifest.SUFFIX), reverse=True)


def _segments_of(paths: Sequence[Path]) -> set[str]:
    """Names of what checkpoints are made of; a damaged manifest has none."""
    names = set[str]()
    for path in paths:
        if path.suffix == manifest.SUFFIX:
            try:
                names |= {part.name for part in read_manifest(path).segments}
            except DamagedError:
                continue
    return names


def has_checkpoint(folder: Path, number: int) -> bool:
    """Whether checkpoint `number` is there and whole."""
    try:
        read_checkpoint(folder, number)
    except DamagedError:
        return False
    return True


def remove_behind(folder: Path, number: int) -> None:
    """Remove every checkpoint behind `number`, newest first, so that whatever is left is what was.

    What they were made of goes with the next `sweep`.
    """
    remove(path for path in _paths(folder) if int(path.stem) > number)


def read_latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None; a damaged one is passed over for the one before it."""
    for path in _paths(folder):
        try:
            return _read(path)
        except DamagedError:
            continue
    return None


def read_checkpoint(folder: Path, number: int) -> Checkpoint:
    """Checkpoint `number`.

    Raises:
        DamagedError: it is not there, or not whole.
    """
    paths = [path for path in _paths(folder) if int(path.stem) == number]
    if not paths:
        raise DamagedError(f"{folder} has no checkpoint {number}")
    return _read(paths[0])


def _read(path: Path) -> Checkpoint:
    if path.suffix == former.SUFFIX:
        return Checkpoint(path, *read_former(path))
    made = read_manifest(path)
    parts = [read_segment(path.parent, part) for part in made.segments]
    arrays = parts[0]
    if len(parts) > 1:
        arrays = {name: column.gathered() for name, column in merged(parts, whole=True).items()}
    return Checkpoint(path, arrays, made.meta, made.segments)
