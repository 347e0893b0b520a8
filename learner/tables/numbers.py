"""Numbers in bytes, little endian if nothing else is said."""

from typing import Any

import numpy as np

from learner.tables.compiled import compiled_once


@compiled_once
def put_u4(to: np.ndarray, at: int, value: int) -> int:
    """Write four bytes; returns where they end."""
    for n in range(4):
        to[at + n] = (value >> (8 * n)) & 255
    return at + 4


@compiled_once
def get_u4(data: np.ndarray, at: int) -> int:
    """Four bytes, as a number."""
    found: int = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24
    return found


@compiled_once
def put_f4(to: np.ndarray, at: int, value: float) -> int:
    """Write a single; returns where it ends."""
    bits: Any = np.float32(value).view(np.uint32)
    return put_u4(to, at, bits)


@compiled_once
def put_f8(to: np.ndarray, at: int, value: float) -> int:
    """Write a double; returns where it ends."""
    bits = np.float64(value).view(np.int64)
    for n in range(8):
        to[at + n] = (bits >> (8 * n)) & 255
    return at + 8


@compiled_once
def get_f8(data: np.ndarray, at: int) -> float:
    """A double."""
    bits = get_u4(data, at) | get_u4(data, at + 4) << 32
    return np.int64(bits).view(np.float64)


@compiled_once
def put_big_f8(to: np.ndarray, at: int, value: float) -> int:
    """Write a double, big endian; returns where it ends."""
    bits = np.float64(value).view(np.int64)
    for n in range(8):
        to[at + n] = (bits >> (56 - 8 * n)) & 255
    return at + 8


@compiled_once
def copy(to: np.ndarray, at: int, data: np.ndarray, begin: int, end: int) -> int:
    """Copy bytes; returns where they end."""
    for n in range(begin, end):
        to[at + n - begin] = data[n]
    return at + end - begin


@compiled_once
def put_u8(to: np.ndarray, at: int, value: int | np.uint64) -> int:
    """Write eight bytes of a whole number, whatever its sign; returns where they end."""
    bits = np.int64(value)
    for n in range(8):
        to[at + n] = (bits >> (8 * n)) & 255
    return at + 8
