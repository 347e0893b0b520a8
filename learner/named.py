"""Arrays by name: those of a part, whose names begin with a prefix, and those of a message, where they lie."""

import struct
from collections.abc import Mapping
from mmap import mmap
from typing import Any, TypeVar

import msgspec
import numpy as np

_T = TypeVar("_T")
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "U64": np.uint64,
    "U32": np.uint32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
"""The types of a safetensors file that are used here."""


class ArraysError(ValueError):
    """Bytes are no arrays by name."""


def arrays_in(blob: bytes | mmap | memoryview) -> dict[str, np.ndarray]:
    """Views of the arrays of a safetensors file; nothing is copied, however large it is, but what is bfloat16.

    NumPy does not know that type: it is widened to float32.

    The library's own reader copies each array while it holds the interpreter's lock, which stops every other thread of
    a process for as long as that takes.

    Args:
        blob: eight bytes, little endian, that say how long the header is; the header, JSON; the arrays.

    Raises:
        ArraysError: it is cut off, or of another form.

    >>> from safetensors.numpy import save
    >>> arrays_in(save({"a": np.arange(3)}))["a"].tolist()
    [0, 1, 2]
    """
    try:
        (size,) = struct.unpack_from("<Q", blob)
        begin = 8 + size
        header: dict[str, Any] = msgspec.json.decode(memoryview(blob)[8:begin])
        header.pop("__metadata__", None)
        arrays = {}
        for name, said in header.items():
            first, end = said["data_offsets"]
            dtype, shape = np.dtype(DTYPES[said["dtype"]]), tuple(said["shape"])
            array = np.frombuffer(blob, dtype, (end - first) // dtype.itemsize, begin + first).reshape(shape)
            arrays[name] = _widened(array) if said["dtype"] == "BF16" else array
    except (struct.error, msgspec.DecodeError, KeyError, TypeError, ValueError) as exc:
        raise ArraysError(
            f"{len(blob)} bytes are no arrays by name ({exc}): they were cut, or are something else"
        ) from exc
    return arrays


def _widened(bits: np.ndarray) -> np.ndarray:
    """The float32 that the first half of its bits stands for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def below(prefix: str, named: Mapping[str, _T]) -> dict[str, _T]:
    """Those whose name begins with a prefix, without it.

    >>> below("fast.", {"fast.w": 1, "deep.w": 2})
    {'w': 1}
    """
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
