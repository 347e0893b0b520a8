"""Ids of items as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np


def packed(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Their UTF-8, one behind the other (`bytes`, uint8), and where each ends (`ends`, int64).

    >>> arrays = packed(["i1", "i20"])
    >>> arrays["ends"].tolist(), unpacked(arrays), name_at(arrays, 1)
    ([2, 5], ['i1', 'i20'], 'i20')
    """
    encoded = [name.encode() for name in names]
    return {
        "bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "ends": np.cumsum([len(one) for one in encoded], dtype=np.int64),
    }


def name_at(arrays: Mapping[str, np.ndarray], n: int) -> str:
    """The n-th of them."""
    begin = int(arrays["ends"][n - 1]) if n else 0
    return arrays["bytes"][begin : int(arrays["ends"][n])].tobytes().decode()


def unpacked(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """All of them."""
    return [name_at(arrays, n) for n in range(len(arrays["ends"]))]
