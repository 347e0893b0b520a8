"""Checkpoints of the former version: one file, SHA-256 of the rest and a safetensors file with `meta` as msgpack."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from learner.checkpoints.segment import DamagedError
from learner.named import arrays_in

SUFFIX = ".ckpt"
_DIGEST_SIZE = 32
_META = "meta"


def read_former(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta.

    Raises:
        DamagedError: it is not what was written.
    """
    data = path.read_bytes()
    body = data[_DIGEST_SIZE:]
    if sha256(body).digest() != data[:_DIGEST_SIZE]:
        raise DamagedError(f"{path} has other bytes than were written")
    arrays = arrays_in(body)
    meta: dict[str, Any] = msgspec.msgpack.decode(arrays.pop(_META).tobytes(), strict=False)
    return arrays, meta
