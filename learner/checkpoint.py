"""Atomic checkpoints: one file that holds the whole learner and the outbox cursor, or does not exist."""

import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load, save
from torch import Tensor

_SUFFIX = ".ckpt"
_DIGEST_SIZE = 32
_META = "meta"


class Checkpoint(msgspec.Struct, frozen=True):
    """A checkpoint read back."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def write_checkpoint(
    folder: Path,
    number: int,
    tensors: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    *,
    keep: int = 2,
    at: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write checkpoint `number` durably: temporary file, fsync, rename, fsync of the folder; older ones are removed.

    Layout: SHA-256 of the rest, then a safetensors file whose tensor `meta` is msgpack. `at` is told of each step, so
    that tests can die there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = torch.frombuffer(bytearray(msgspec.msgpack.encode(meta)), dtype=torch.uint8)
    body = save({**{name: t.contiguous() for name, t in tensors.items()}, _META: packed})
    path = folder / f"{number:012d}{_SUFFIX}"
    temporary = path.with_suffix(".part")
    at("checkpoint.before_write")
    with temporary.open("wb") as f:
        f.write(sha256(body).digest())
        f.write(body[: len(body) // 2])
        at("checkpoint.half_written")
        f.write(body[len(body) // 2 :])
        f.flush()
        os.fsync(f.fileno())
    at("checkpoint.before_rename")
    temporary.rename(path)
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    for old in sorted(folder.glob(f"*{_SUFFIX}"))[:-keep]:
        old.unlink()
    return path


def read_latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None; a damaged one is passed over for the one before it."""
    for path in sorted(folder.glob(f"*{_SUFFIX}"), reverse=True):
        data = path.read_bytes()
        body = data[_DIGEST_SIZE:]
        if sha256(body).digest() != data[:_DIGEST_SIZE]:
            continue
        tensors = load(body)
        meta = msgspec.msgpack.decode(tensors.pop(_META).numpy().tobytes(), strict=False)
        return Checkpoint(path, tensors, meta)
    return None
