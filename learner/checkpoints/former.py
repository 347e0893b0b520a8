"""Checkpoints of the former version: one file, SHA-256 of the rest and a safetensors file with `meta` as msgpack."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from learner.checkpoints.digested import read_digested
from learner.named import arrays_in

SUFFIX = ".ckpt"
_META = "meta"


def read_former(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta.

    Raises:
        DamagedError: it is not what was written.
    """
    arrays = arrays_in(read_digested(path))
    meta: dict[str, Any] = msgspec.msgpack.decode(arrays.pop(_META).tobytes(), strict=False)
    return arrays, meta
