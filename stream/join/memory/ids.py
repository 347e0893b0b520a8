"""Ids of one kind that a partition knows, and a number for each.

Legend: K ids that are asked about.
"""

import secrets
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from stream.join.kernels.ids import (
    NUM,
    NUM_FREE,
    NUM_USED,
    TEXTS_END,
    IdArrays,
    bytes_of_ids,
    fill_slots,
    find_ids,
    forget_ids,
    gather_ids,
    number_ids,
    pack_ids,
)

_AT_FIRST = 1024


class Texts(NamedTuple):
    """Several texts in one."""

    text: np.ndarray
    """uint8."""
    spans_K2: np.ndarray
    """int64; where each begins and ends."""

    def several(self, begin: int, end: int) -> list[str]:
        """Some of them."""
        if begin == end:
            return []
        data, spans = self.text.tobytes(), self.spans_K2[begin:end].tolist()
        if data.isascii():
            text = data.decode("ascii")
            return [text[at:to] for at, to in spans]
        return [data[at:to].decode() for at, to in spans]

    @property
    def num_bytes(self) -> int:
        """Of all of them."""
        return int((self.spans_K2[:, 1] - self.spans_K2[:, 0]).sum())


def texts_of(several: Sequence[str]) -> Texts:
    """Texts in one.

    >>> texts_of(["some", "are"]).several(1, 2)
    ['are']
    """
    encoded = [one.encode() for one in several]
    ends = np.array([*accumulate(map(len, encoded), initial=0)], np.int64)
    text = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
    return Texts(text, np.stack([ends[:-1], ends[1:]], axis=1))


class Ids:
    """Ids and their numbers, from 0; a number that is forgotten is given again."""

    def __init__(self) -> None:
        self.arrays = IdArrays(
            slots=np.zeros(2 * _AT_FIRST, np.int32),
            hashes_N=np.zeros(_AT_FIRST, np.int64),
            at_N=np.zeros(_AT_FIRST, np.int64),
            end_N=np.zeros(_AT_FIRST, np.int64),
            texts=np.zeros(_AT_FIRST, np.uint8),
            free_N=np.zeros(_AT_FIRST, np.int32),
            sizes=np.zeros(4, np.int64),
            salt=np.array([secrets.randbits(62)], np.int64),
        )

    def __len__(self) -> int:
        """One more than the largest number that was given."""
        return int(self.arrays.sizes[NUM])

    @property
    def num_bytes(self) -> int:
        """Memory that all of it takes."""
        return sum(array.nbytes for array in self.arrays)

    def numbers(self, ids: Texts) -> np.ndarray:
        """Numbers of ids, int64; new ones are given some.

        >>> ids = Ids()
        >>> ids.numbers(texts_of(["a", "b", "a"])).tolist(), ids.find(texts_of(["b", "c"])).tolist()
        ([0, 1, 0], [1, -1])
        """
        num = len(ids.spans_K2)
        found_K = np.empty(num, np.int64)
        if num:
            self._make_room(num, ids.num_bytes)
            number_ids(self.arrays, ids.text, ids.spans_K2, found_K)
        return found_K

    def find(self, ids: Texts) -> np.ndarray:
        """Numbers of ids, int64; -1 for those that have none."""
        found_K = np.empty(len(ids.spans_K2), np.int64)
        if len(found_K):
            find_ids(self.arrays, ids.text, ids.spans_K2, found_K)
        return found_K

    def texts(self, numbers_K: np.ndarray) -> Texts:
        """Ids of numbers, one behind the other."""
        found = Texts(np.empty(self.bytes_of(numbers_K), np.uint8), np.empty((len(numbers_K), 2), np.int64))
        gather_ids(self.arrays, np.ascontiguousarray(numbers_K, np.int64), found.text, found.spans_K2)
        # As those of other texts: compiled functions are made once for each kind of array.
        found.text.flags.writeable = False
        return found

    def bytes_of(self, numbers_K: np.ndarray) -> int:
        """Of the ids of numbers."""
        return int((self.arrays.end_N[numbers_K] - self.arrays.at_N[numbers_K]).sum())

    def names(self, numbers_K: np.ndarray) -> list[str]:
        """Ids of numbers."""
        return self.texts(numbers_K).several(0, len(numbers_K)) if len(numbers_K) else []

    def forget(self, numbers_K: np.ndarray) -> None:
        """These numbers are free."""
        if len(numbers_K):
            forget_ids(self.arrays, numbers_K)

    def are_known(self, numbers_K: np.ndarray) -> np.ndarray:
        """Which numbers are not free."""
        known_K: np.ndarray = self.arrays.at_N[numbers_K] >= 0
        return known_K

    def _make_room(self, num: int, num_bytes: int) -> None:
        arrays, sizes = self.arrays, self.arrays.sizes
        if sizes[NUM] + num > len(arrays.at_N):
            most = 2 * int(sizes[NUM]) + num
            grown = {name: _grown(getattr(arrays, name), most) for name in ("hashes_N", "at_N", "end_N", "free_N")}
            arrays = arrays._replace(**grown)
        # At most half of the slots are taken, so that few are looked at.
        if 2 * (sizes[NUM_USED] + num) > len(arrays.slots):
            num_there = int(sizes[NUM] - sizes[NUM_FREE]) + num
            arrays = arrays._replace(slots=np.zeros(1 << (4 * num_there - 1).bit_length(), np.int32))
            fill_slots(arrays)
        if sizes[TEXTS_END] + num_bytes > len(arrays.texts):
            texts = np.zeros(2 * (int(bytes_of_ids(arrays)) + num_bytes), np.uint8)
            pack_ids(arrays, texts)
            arrays = arrays._replace(texts=texts)
        self.arrays = arrays


def _grown(old: np.ndarray, num: int) -> np.ndarray:
    new = np.zeros(num, old.dtype)
    new[: len(old)] = old
    return new
