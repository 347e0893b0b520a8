"""A manifest: which segments make up a checkpoint, and what else belongs to it. Moved into place, it makes it one."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from learner.checkpoints.segment import DamagedError, Segment
from learner.files import write_whole

SUFFIX = ".manifest"
_DIGEST_SIZE = 32


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
    body = msgspec.msgpack.encode(manifest)
    write_whole(path, (sha256(body).digest(), body), before_rename=before_rename)
    return path


def read_manifest(path: Path) -> Manifest:
    """The manifest of a file.

    Raises:
        DamagedError: it is not what was written.
    """
    data = path.read_bytes()
    body = data[_DIGEST_SIZE:]
    if sha256(body).digest() != data[:_DIGEST_SIZE]:
        raise DamagedError(f"{path} has other bytes than were written")
    try:
        return msgspec.msgpack.decode(body, type=Manifest, strict=False)
    except msgspec.MsgspecError as exc:
        raise DamagedError(f"{path} is of another version: {exc}") from exc
