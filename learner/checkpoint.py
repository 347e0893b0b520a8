"""Atomic checkpoints: one file that holds the whole learner and the outbox cursor, or does not exist."""

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import load, save

from learner.files import forget_parts, remove, write_whole

_SUFFIX = ".ckpt"
_DIGEST_SIZE = 32
_META = "meta"


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint read back."""

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def write_checkpoint(
    folder: Path,
    number: int,
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    *,
    keep: int = 2,
    kept: Collection[int] = (),
    at: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write checkpoint `number` durably, or not at all; older ones are removed behind it, but for those of `kept`.

    Layout: SHA-256 of the rest, then a safetensors file whose array `meta` is msgpack. `at` is told of each step, so
    that tests can die there.

    Raises:
        OSError: it cannot be written; the folder is as it was.
    """
    packed = np.frombuffer(msgspec.msgpack.encode(meta), np.uint8)
    body = save({**{name: np.ascontiguousarray(a) for name, a in arrays.items()}, _META: packed})
    path = folder / f"{number:012d}{_SUFFIX}"
    at("checkpoint.before_write")
    half = len(body) // 2
    view = memoryview(body)
    write_whole(
        path,
        (sha256(body).digest(), view[:half], view[half:]),
        before_last=lambda: at("checkpoint.half_written"),
        before_rename=lambda: at("checkpoint.before_rename"),
    )
    remove(old for old in sorted(folder.glob(f"*{_SUFFIX}"))[:-keep] if int(old.stem) not in kept)
    return path


def has_checkpoint(folder: Path, number: int) -> bool:
    """Whether checkpoint `number` is there and whole."""
    path = folder / f"{number:012d}{_SUFFIX}"
    return path.exists() and _read(path) is not None


def remove_behind(folder: Path, number: int) -> None:
    """Remove every checkpoint behind `number`, newest first, so that whatever is left is what was."""
    remove(path for path in sorted(folder.glob(f"*{_SUFFIX}"), reverse=True) if int(path.stem) > number)


def read_latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None; a damaged one is passed over for the one before it, a half-made removed."""
    forget_parts(folder)
    for path in sorted(folder.glob(f"*{_SUFFIX}"), reverse=True):
        found = _read(path)
        if found is not None:
            return found
    return None


def _read(path: Path) -> Checkpoint | None:
    """A checkpoint; None if it is damaged."""
    data = path.read_bytes()
    body = data[_DIGEST_SIZE:]
    if sha256(body).digest() != data[:_DIGEST_SIZE]:
        return None
    arrays = load(body)
    meta = msgspec.msgpack.decode(arrays.pop(_META).tobytes(), strict=False)
    return Checkpoint(path, arrays, meta)
