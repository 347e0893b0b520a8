"""A segment: arrays by name in one safetensors file, written piece by piece, named by its content, never changed."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from learner.files import put_in_place, write_part
from learner.named import DTYPES, arrays_in

SUFFIX = ".segment"
_NAME_OF = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_PIECE_BYTES = 1 << 20
"""A thread that writes holds the interpreter's lock no longer than it takes to copy so many."""
_ALIGNED = 8


class Segment(msgspec.Struct, frozen=True):
    """What a manifest says of a segment."""

    name: str
    num_bytes: int
    sha256: str
    """Hexadecimal."""


class DamagedError(ValueError):
    """A file is not there, is cut off, or has other bytes than were written."""


class Column(NamedTuple):
    """An array that need not be in memory as a whole."""

    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]
    """Its parts along the first axis, in order."""

    @property
    def num_bytes(self) -> int:
        """Of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def gathered(self) -> np.ndarray:
        """The array as a whole."""
        whole, begin = np.empty(self.shape, self.dtype), 0
        rows = whole.reshape(self.shape or 1)
        for piece in self.pieces():
            rows[begin : begin + len(piece)] = piece
            begin += len(piece)
        return whole


def column_of(array: np.ndarray) -> Column:
    """A column of what is in memory, which may be a view."""

    def pieces() -> Iterator[np.ndarray]:
        rows = array.reshape(array.shape or 1)
        size = max(1, _PIECE_BYTES // max(1, math.prod(rows.shape[1:]) * array.itemsize))
        for begin in range(0, len(rows), size):
            yield rows[begin : begin + size]

    return Column(array.dtype, array.shape, pieces)


def write_segment(
    folder: Path,
    stem: str,
    columns: Mapping[str, Column],
    *,
    half_written: Callable[[], None] = lambda: None,
    before_rename: Callable[[], None] = lambda: None,
) -> Segment:
    """Write a segment durably, or not at all.

    Args:
        folder: of the checkpoints; made if it is not there.
        stem: what the file's name begins with; the rest says what is in it.
        columns: the arrays.
        half_written: called with about half of it written.
        before_rename: called with everything written, and nothing in place.

    Raises:
        OSError: it cannot be written; nothing of it stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary, digest = folder / f"{stem}{SUFFIX}.part", sha256()
    ordered = dict(sorted(columns.items(), key=lambda named: (-named[1].dtype.itemsize, named[0])))
    half, written = sum(column.num_bytes for column in ordered.values()) // 2, 0

    def digested() -> Iterator[memoryview]:
        nonlocal written
        for part in _parts(ordered):
            digest.update(part)
            yield part
            if written <= half < written + part.nbytes:
                half_written()
            written += part.nbytes

    write_part(temporary, digested(), before_rename)
    segment = Segment(f"{stem}-{digest.hexdigest()[:16]}{SUFFIX}", written, digest.hexdigest())
    put_in_place(temporary, folder / segment.name)
    return segment


def _parts(columns: Mapping[str, Column]) -> Iterator[memoryview]:
    """The file's bytes. Wide values come first, so that every array lies where its type wants to."""
    header, begin = {}, 0
    for name, column in columns.items():
        end = begin + column.num_bytes
        header[name] = {"dtype": _NAME_OF[column.dtype], "shape": column.shape, "data_offsets": (begin, end)}
        begin = end
    said = msgspec.json.encode(header)
    said += b" " * (-len(said) % _ALIGNED)
    yield memoryview(struct.pack("<Q", len(said)) + said)
    for column in columns.values():
        for piece in column.pieces():
            if piece.size:
                yield np.ascontiguousarray(piece).data.cast("B")


def read_segment(folder: Path, segment: Segment) -> dict[str, np.ndarray]:
    """The arrays, as views of the file, which is read once to see that it is whole.

    Raises:
        DamagedError: it is not what the manifest says.
    """
    path = folder / segment.name
    try:
        with path.open("rb") as f:
            content = mmap(f.fileno(), 0, access=ACCESS_READ)
    except (FileNotFoundError, ValueError) as exc:
        # An empty file cannot be mapped.
        raise DamagedError(f"{path} is not there, or empty") from exc
    if len(content) != segment.num_bytes or sha256(content).hexdigest() != segment.sha256:
        raise DamagedError(f"{path} has other bytes than were written")
    return arrays_in(content)
