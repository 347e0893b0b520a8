"""Sums by group, of groups that come as they come: cohorts, arms, ranges of versions.

Versions of weights change every second or two, so they are put together in ranges of one width: of 2^k versions, with
the least k that leaves no more ranges than are kept. A range is two of half its width, so sums add up without loss.
"""

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np

EVERYTHING, COHORT, ARM, SHARE, VERSION = "all", "cohort", "arm", "share", "version"
"""Dimensions. Numbers within them: 0; the cohort's; the arm's (`arm_key`); 1 for the canary, else 0; of a range of
versions its first version over its width."""
MAX_ARMS = 32
OTHER_ARMS = 2**64 - 1
"""What arms beyond those are together."""
MAX_RANGES = 16

GroupKey = tuple[str, int]


class _Stored(msgspec.Struct, array_like=True):
    width: int
    keys: list[tuple[str, int]]
    sums: bytes


class Groups:
    """Sums of X columns by group.

    >>> groups = Groups()
    >>> groups.add_versions(np.arange(1, 41), np.ones((40, 1)))
    >>> groups.width, sorted((number, float(sums[0])) for (_, number), sums in groups.sums.items())[:3]
    (4, [(0, 3.0), (1, 4.0), (2, 4.0)])
    """

    def __init__(self) -> None:
        self.sums: dict[GroupKey, np.ndarray] = {}
        """By dimension and number, each of shape (X,)."""
        self.width = 1
        """Versions in a range."""

    def __bool__(self) -> bool:
        return bool(self.sums)

    def of(self, dimension: str) -> dict[int, np.ndarray]:
        """Sums of a dimension, by number, ascending."""
        return {number: self.sums[of, number] for of, number in sorted(self.sums) if of == dimension}

    def put(self, dimension: str, numbers: Sequence[int] | np.ndarray, sums_GX: np.ndarray) -> None:
        """Add sums to groups of a dimension, but of versions.

        Args:
            dimension: which.
            numbers: G groups.
            sums_GX: of each.
        """
        for number, sums_X in zip(np.asarray(numbers).tolist(), sums_GX, strict=True):
            self._add((dimension, number), sums_X)

    def add_versions(self, versions: Sequence[int] | np.ndarray, sums_GX: np.ndarray) -> None:
        """Add sums to ranges of versions; as of `put`."""
        self.put(VERSION, np.asarray(versions) // self.width, sums_GX)
        while len(self.of(VERSION)) > MAX_RANGES:
            self._widen(2 * self.width)

    def add(self, other: "Groups") -> None:
        """Take another's sums in."""
        self._widen(max(self.width, other.width))
        for (dimension, number), sums_X in other.sums.items():
            if dimension == VERSION:
                self.add_versions([number * other.width], sums_X[None])
            else:
                self._add((dimension, number), sums_X)

    def _add(self, key: GroupKey, sums_X: np.ndarray) -> None:
        if key[0] == ARM and key not in self.sums and len(self.of(ARM)) >= MAX_ARMS:
            key = ARM, OTHER_ARMS
        held = self.sums.get(key)
        self.sums[key] = sums_X.astype(np.float64) if held is None else held + sums_X

    def _widen(self, width: int) -> None:
        if width == self.width:
            return
        narrow, ratio = self.of(VERSION), width // self.width
        self.sums = {key: sums_X for key, sums_X in self.sums.items() if key[0] != VERSION}
        self.width = width
        for number, sums_X in narrow.items():
            self._add((VERSION, number // ratio), sums_X)

    def encode(self) -> bytes:
        """For the history; empty if there is nothing."""
        if not self.sums:
            return b""
        whole = np.stack(list(self.sums.values())).astype(np.float32)
        return msgspec.msgpack.encode(_Stored(self.width, list(self.sums), zlib.compress(whole.tobytes(), 1)))

    @staticmethod
    def decode(data: bytes) -> "Groups":
        """From the history."""
        groups = Groups()
        if data:
            stored = msgspec.msgpack.decode(data, type=_Stored)
            whole = np.frombuffer(zlib.decompress(stored.sums), np.float32).reshape(len(stored.keys), -1)
            groups.width = stored.width
            groups.sums = {key: sums_X.astype(np.float64) for key, sums_X in zip(stored.keys, whole, strict=True)}
        return groups
