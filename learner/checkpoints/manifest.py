"""A manifest: which segments make up a checkpoint, and what else belongs to it. Moved into place, it makes it one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from learner.checkpoints.digested import read_digested, write_digested
from learner.checkpoints.segment import DamagedError, Segment

SUFFIX = ".manifest"


class Manifest(msgspec.Struct, frozen=True):
    """Of one checkpoint."""

    number: int
    segments: tuple[Segment, ...]
    """The first holds the whole tables, each of the others what changed since."""
    meta: dict[str, Any]


def write_manifest(folder: Path, manifest: Manifest, before_rename: Callable[[], None] = lambda: None) -> Path:
    """Write it durably: SHA-256 of the rest, then msgpack.

    Raises:
        OSError: it cannot be written; one that was there is as it was.
    """
    path = folder / f"{manifest.number:012d}{SUFFIX}"
    write_digested(path, msgspec.msgpack.encode(manifest), before_rename)
    return path


def read_manifest(path: Path) -> Manifest:
    """The manifest of a file.

    Raises:
        DamagedError: it is not what was written.
    """
    body = read_digested(path)
    try:
        return msgspec.msgpack.decode(body, type=Manifest, strict=False)
    except msgspec.MsgspecError as exc:
        raise DamagedError(f"{path} is of another version: {exc}") from exc
