"""Arrays of many million rows that are reserved once and cost only what is written to.

Those made within `sharing()` are shared with every process forked later: what one of them writes the others read.
"""

import math
import mmap
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import DTypeLike

_KNOWN_NORESERVE = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if _KNOWN_NORESERVE else 0)
"""Python names it from 3.13 on."""


_GIVEN_BACK = 64 << 20
"""Bytes at a time: some ten milliseconds, if all of it was used."""


class MemoryRefusedError(MemoryError):
    """The operating system does not give the address space that a table was to have."""


_IS_SHARED: ContextVar[bool] = ContextVar("is_shared", default=False)


@contextmanager
def sharing() -> Iterator[None]:
    """Have arrays that are made meanwhile lie in memory that processes share.

    >>> with sharing():
    ...     is_shared()
    True
    """
    before = _IS_SHARED.set(True)
    try:
        yield
    finally:
        _IS_SHARED.reset(before)


def is_shared() -> bool:
    """Whether arrays made now are shared."""
    return _IS_SHARED.get()


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """A small array of zeros, shared if those made now are."""
    return reserve(shape, dtype) if is_shared() else np.zeros(shape, dtype)


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of zeros over memory that the operating system hands out page by page, at the first write.

    A table is reserved for as many rows as it may ever have: its rows never move, and rows not used cost nothing.

    Raises:
        MemoryRefusedError: the system does not give so much.

    >>> reserve((1 << 30, 16), np.float32)[1 << 29, :3]   # of 64 GiB, a page is used
    array([0., 0., 0.], dtype=float32)
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if not size:
        return np.zeros(shape, kind)
    try:
        if not _NORESERVE and not is_shared():
            return np.zeros(shape, kind)
        kind_of_map = mmap.MAP_SHARED if is_shared() else mmap.MAP_PRIVATE
        memory = mmap.mmap(-1, size, flags=kind_of_map | mmap.MAP_ANONYMOUS | _NORESERVE)
    except (OSError, OverflowError, ValueError, MemoryError) as error:
        dimensions = " x ".join(f"{length:,}" for length in shape)
        raise MemoryRefusedError(
            f"cannot reserve {size / 2**30:,.1f} GiB of addresses for an array of {dimensions} {kind}: {error}. Only "
            "rows in use will cost memory, but their addresses are needed from the start: allow fewer rows, or lift "
            "the limit (ulimit -v, vm.overcommit_memory = 2, a container's policy)"
        ) from error
    return np.frombuffer(memory, kind).reshape(shape)


def give_back(array: np.ndarray, pause: Callable[[], object] = lambda: None) -> None:
    """Make an array that was reserved zeros again, and give its pages back to the system, with pauses.

    >>> array = reserve((1 << 20,), np.int64)
    >>> array[:] = 1
    >>> give_back(array)
    >>> array.any()
    np.False_
    """
    memory = array
    while isinstance(memory, np.ndarray) and memory.base is not None:
        memory = memory.base
    if isinstance(memory, memoryview):
        memory = memory.obj
    if not isinstance(memory, mmap.mmap):
        array[:] = 0
        return
    for at in range(0, len(memory), _GIVEN_BACK):
        size = min(_GIVEN_BACK, len(memory) - at)
        try:
            memory.madvise(mmap.MADV_REMOVE, at, size)
        except OSError:
            # It is this process' alone.
            memory.madvise(mmap.MADV_DONTNEED, at, size)
        pause()


def plain(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """The array as compiled code takes it: of this type, contiguous and writable; copied only if it is not.

    Compiled code is made per type, and an array that cannot be written to, such as one read from a message, is of
    another type.
    """
    if array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C_CONTIGUOUS", "WRITEABLE"])
