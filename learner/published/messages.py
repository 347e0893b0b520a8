"""Messages of arrays by name (safetensors), their values rounded if that is wanted; cut into chunks, and put together.

A snapshot is a sequence of messages. One that is larger than a chunk may be is cut, and says by itself where it ends.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
from safetensors.numpy import save

from learner.config import Values
from learner.named import ArraysError, arrays_in

NUM_BYTES: Mapping[Values, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
CHUNK_BYTES = 4 << 20
"""A chunk has no more."""
_MOST_FLOAT16 = 65504.0


def message(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as bytes."""
    blob: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return blob


def message_of_values(arrays: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], rounded: Values) -> bytes:
    """The same with float32 values besides, which are rounded to the nearest, and to the greatest that there is."""
    if rounded == "float32":
        return message({**arrays, **values})
    import torch
    from safetensors.torch import save as save_tensors

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, value in values.items():
        tensor = torch.from_numpy(value)
        if rounded == "float16":
            # What is beyond would be infinite.
            tensor = tensor.clamp(-_MOST_FLOAT16, _MOST_FLOAT16)
        tensors[name] = tensor.to(torch.float16 if rounded == "float16" else torch.bfloat16)
    blob: bytes = save_tensors(tensors)
    return blob


def cut(messages: Iterable[bytes]) -> Iterator[memoryview]:
    """Chunks of at most `CHUNK_BYTES`; each message begins one.

    >>> [len(chunk) for chunk in cut([b"a", bytes(CHUNK_BYTES + 2)])]
    [1, 4194304, 2]
    """
    for one in messages:
        view = memoryview(one)
        for at in range(0, len(view), CHUNK_BYTES):
            yield view[at : at + CHUNK_BYTES]


def joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Messages from their chunks; no more than one is held.

    Raises:
        ArraysError: the last one is cut off.

    >>> whole = [message({"a": np.arange(3)}), message({"b": np.zeros(CHUNK_BYTES // 4)})]
    >>> [*joined(map(bytes, cut(whole)))] == whole
    True
    """
    parts: list[bytes] = []
    missing = 0
    for chunk in chunks:
        missing = (missing if parts else _size(chunk)) - len(chunk)
        parts.append(chunk)
        if missing <= 0:
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts = []
    if parts:
        raise ArraysError(f"a message of a snapshot lacks its last {missing:,} bytes")


def gathered(chunks: Iterable[bytes]) -> dict[str, np.ndarray]:
    """Everything that a full snapshot has, by name, each table's rows one behind the other; values as float32."""
    parts: dict[str, list[np.ndarray]] = {}
    for one in joined(chunks):
        for name, array in arrays_in(one).items():
            parts.setdefault(name, []).append(array.astype(np.float32) if array.dtype == np.float16 else array)
    return {name: np.concatenate(found) if len(found) > 1 else found[0] for name, found in parts.items()}


def _size(chunk: bytes) -> int:
    """Bytes of the message that a chunk begins."""
    try:
        (length,) = struct.unpack_from("<Q", chunk)
        header = msgspec.json.decode(memoryview(chunk)[8 : 8 + length])
        ends = [said["data_offsets"][1] for name, said in header.items() if name != "__metadata__"]
        return 8 + int(length) + max(ends, default=0)
    except (struct.error, msgspec.DecodeError, KeyError, TypeError, AttributeError) as exc:
        raise ArraysError(f"{len(chunk)} bytes begin no message of a snapshot ({exc})") from exc
