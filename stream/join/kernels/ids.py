"""Numbers of ids: a hash table with open addressing, whose keys are texts. Equal is what is equal byte by byte.

Legend: N numbers that were given, K ids that are asked about.
"""

from typing import NamedTuple

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.hashing import mix
from learner.tables.numbers import copy

EMPTY, GONE = 0, -1
"""What a slot holds if not a number, which is held as one more than it is."""
NUM, NUM_FREE, TEXTS_END, NUM_USED = range(4)
"""Places of `IdArrays.sizes`: numbers that were ever given, those that are free again, bytes of texts, slots that are
not empty."""
_EIGHT = np.uint64(8)


class IdArrays(NamedTuple):
    """Ids and their numbers."""

    slots: np.ndarray
    """int32; as many as a power of two."""
    hashes_N: np.ndarray
    at_N: np.ndarray
    """Where in `texts` an id is; -1: the number is free."""
    end_N: np.ndarray
    texts: np.ndarray
    """uint8."""
    free_N: np.ndarray
    """int32; numbers that are free."""
    sizes: np.ndarray
    salt: np.ndarray
    """One whole number, so that nobody can choose ids whose hashes are the same."""


@compiled_once
def hash_of(text: np.ndarray, at: int, end: int, salt: int) -> int:
    """Hash of an id."""
    found = mix(np.uint64(salt) ^ np.uint64(end - at))
    while at < end:
        word = np.uint64(0)
        for n in range(at, min(at + 8, end)):
            word = word << _EIGHT | np.uint64(text[n])
        found = mix(found ^ word)
        at += 8
    hashed: int = np.int64(found)  # type: ignore[assignment]
    return hashed


@compiled_once
def _is_it(ids: IdArrays, n: int, text: np.ndarray, at: int, end: int) -> bool:
    begin = ids.at_N[n]
    if ids.end_N[n] - begin != end - at:
        return False
    k = 0
    while at + k < end and ids.texts[begin + k] == text[at + k]:
        k += 1
    return at + k == end


@compiled_once
def _find(ids: IdArrays, text: np.ndarray, at: int, end: int, hashed: int) -> int:
    """Number of an id; -1: it has none."""
    mask = len(ids.slots) - 1
    place = hashed & mask
    while ids.slots[place] != EMPTY:
        n: int = ids.slots[place] - 1
        if n >= 0 and ids.hashes_N[n] == hashed and _is_it(ids, n, text, at, end):
            return n
        place = (place + 1) & mask
    return -1


@compiled_once
def _put(ids: IdArrays, n: int) -> None:
    """A slot for a number."""
    mask = len(ids.slots) - 1
    place = ids.hashes_N[n] & mask
    while ids.slots[place] > EMPTY:
        place = (place + 1) & mask
    if ids.slots[place] == EMPTY:
        ids.sizes[NUM_USED] += 1
    ids.slots[place] = n + 1


@compiled_once
def _add(ids: IdArrays, text: np.ndarray, at: int, end: int, hashed: int) -> int:
    sizes = ids.sizes
    if sizes[NUM_FREE] > 0:
        sizes[NUM_FREE] -= 1
        n: int = ids.free_N[sizes[NUM_FREE]]
    else:
        n = sizes[NUM]
        sizes[NUM] = n + 1
    begin = sizes[TEXTS_END]
    ids.hashes_N[n], ids.at_N[n] = hashed, begin
    ids.end_N[n] = sizes[TEXTS_END] = copy(ids.texts, begin, text, at, end)
    _put(ids, n)
    return n


@compiled_once
def number_ids(ids: IdArrays, text: np.ndarray, spans_K2: np.ndarray, found_K: np.ndarray) -> None:
    """Numbers of ids, for which there is room; those that have none are given one."""
    salt = ids.salt[0]
    for k in range(len(found_K)):
        at, end = spans_K2[k, 0], spans_K2[k, 1]
        hashed = hash_of(text, at, end, salt)
        n = _find(ids, text, at, end, hashed)
        found_K[k] = n if n >= 0 else _add(ids, text, at, end, hashed)


@compiled_once
def find_ids(ids: IdArrays, text: np.ndarray, spans_K2: np.ndarray, found_K: np.ndarray) -> None:
    """Numbers of ids; -1 for those that have none."""
    salt = ids.salt[0]
    for k in range(len(found_K)):
        at, end = spans_K2[k, 0], spans_K2[k, 1]
        found_K[k] = _find(ids, text, at, end, hash_of(text, at, end, salt))


@compiled_once
def forget_ids(ids: IdArrays, numbers_K: np.ndarray) -> None:
    """These numbers are free; those that are so already stay so."""
    mask = len(ids.slots) - 1
    for k in range(len(numbers_K)):
        n = numbers_K[k]
        if ids.at_N[n] < 0:
            continue
        place = ids.hashes_N[n] & mask
        while ids.slots[place] != n + 1:
            place = (place + 1) & mask
        ids.slots[place] = GONE
        ids.at_N[n] = -1
        ids.free_N[ids.sizes[NUM_FREE]] = n
        ids.sizes[NUM_FREE] += 1


@compiled_once
def fill_slots(ids: IdArrays) -> None:
    """Put all numbers into slots that are empty."""
    ids.sizes[NUM_USED] = 0
    for n in range(ids.sizes[NUM]):
        if ids.at_N[n] >= 0:
            _put(ids, n)


@compiled_once
def bytes_of_ids(ids: IdArrays) -> int:
    """Bytes of the ids that have numbers."""
    total = 0
    for n in range(ids.sizes[NUM]):
        if ids.at_N[n] >= 0:
            total += ids.end_N[n] - ids.at_N[n]
    return total


@compiled_once
def pack_ids(ids: IdArrays, to: np.ndarray) -> None:
    """Put texts one behind the other, into other memory."""
    end = 0
    for n in range(ids.sizes[NUM]):
        if ids.at_N[n] >= 0:
            begin, ids.at_N[n] = ids.at_N[n], end
            end = ids.end_N[n] = copy(to, end, ids.texts, begin, ids.end_N[n])
    ids.sizes[TEXTS_END] = end


@compiled_once
def gather_ids(ids: IdArrays, numbers_K: np.ndarray, to: np.ndarray, spans_K2: np.ndarray) -> None:
    """Ids of numbers, one behind the other, and where each is."""
    end = 0
    for k in range(len(numbers_K)):
        n = numbers_K[k]
        spans_K2[k, 0] = end
        end = spans_K2[k, 1] = copy(to, end, ids.texts, ids.at_N[n], ids.end_N[n])
