"""Key -> row: open addressing with linear probing over two arrays.

Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithms L and R: a removal shifts back what follows,
so that there are no tombstones and a table that lives for months stays as quick as a new one. Keys are hashes already,
but whoever made them need not have made their low bits even, so they are mixed.

Legend: S slots (a power of two, at most `_MAX_LOAD` of them used), N keys.
"""

import numpy as np

from learner.tables.compiled import compiled, compiled_maker
from learner.tables.hashing import mix
from learner.tables.memory import give_back, reserve

_MAX_LOAD = 0.6
_FIRST_CAPACITY = 1024
NO_KEY = np.uint64(0)
"""No value; its row is `NO_ROW`."""
NO_ROW = 0


@compiled
def find(keys_S: np.ndarray, rows_S: np.ndarray, key: np.uint64) -> int:
    """Row of a key, or `NO_ROW`."""
    if key == NO_KEY:
        return NO_ROW
    mask = len(keys_S) - 1
    slot = np.int64(mix(key) & np.uint64(mask))
    while keys_S[slot] != NO_KEY:
        if keys_S[slot] == key:
            return int(rows_S[slot])
        slot = (slot + 1) & mask
    return NO_ROW


@compiled
def insert(keys_S: np.ndarray, rows_S: np.ndarray, key: np.uint64, row: int) -> None:
    """Note the row of a key that is not there yet; there must be a free slot."""
    mask = len(keys_S) - 1
    slot = np.int64(mix(key) & np.uint64(mask))
    while keys_S[slot] != NO_KEY:
        slot = (slot + 1) & mask
    keys_S[slot] = key
    rows_S[slot] = row


@compiled
def remove(keys_S: np.ndarray, rows_S: np.ndarray, key: np.uint64) -> int:
    """Forget a key; returns the row it had, or `NO_ROW`."""
    mask = len(keys_S) - 1
    hole = np.int64(mix(key) & np.uint64(mask))
    while keys_S[hole] != key:
        if keys_S[hole] == NO_KEY:
            return NO_ROW
        hole = (hole + 1) & mask
    row = int(rows_S[hole])
    slot = hole
    while True:
        slot = (slot + 1) & mask
        if keys_S[slot] == NO_KEY:
            break
        home = np.int64(mix(keys_S[slot]) & np.uint64(mask))
        # Whoever probed past the hole on the way from its home may move into it.
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            keys_S[hole], rows_S[hole] = keys_S[slot], rows_S[slot]
            hole = slot
    keys_S[hole] = NO_KEY
    rows_S[hole] = NO_ROW
    return row


@compiled
def has_room(keys_S: np.ndarray, size: int) -> bool:
    """Whether one more key may be inserted beside `size` others."""
    return size + 1 <= _MAX_LOAD * len(keys_S)


@compiled_maker
def find_many(keys_S: np.ndarray, rows_S: np.ndarray, keys_N: np.ndarray) -> np.ndarray:
    """Row of each key, or `NO_ROW`."""
    rows_N = np.empty(len(keys_N), np.int32)
    for n in range(len(keys_N)):
        rows_N[n] = find(keys_S, rows_S, keys_N[n])
    return rows_N


@compiled
def _find_or_number(
    keys_S: np.ndarray, rows_S: np.ndarray, size_1: np.ndarray, keys_N: np.ndarray, rows_N: np.ndarray, begin: int
) -> int:
    """From key `begin` on; returns how far it came before the slots ran out."""
    for n in range(begin, len(keys_N)):
        row = find(keys_S, rows_S, keys_N[n])
        if row == NO_ROW and keys_N[n] != NO_KEY:
            if not has_room(keys_S, size_1[0]):
                return n
            size_1[0] += 1
            row = size_1[0]
            insert(keys_S, rows_S, keys_N[n], row)
        rows_N[n] = row
    return len(keys_N)


@compiled
def _insert_all(keys_S: np.ndarray, rows_S: np.ndarray, old_keys: np.ndarray, old_rows: np.ndarray) -> None:
    for slot in range(len(old_keys)):
        if old_keys[slot] != NO_KEY:
            insert(keys_S, rows_S, old_keys[slot], old_rows[slot])


class Index:
    """The slots, and how many are used.

    Compiled code is handed `keys_S`, `rows_S` and `size_1`; when it says that the slots have run out, `grow` doubles
    them, which takes a while once in a while (about 0.1 s per million keys).

    >>> index = Index()
    >>> index.find_or_number(np.array([7, 0, 9, 7], np.uint64)).tolist()
    [1, 0, 2, 1]
    >>> index.remove(7), index.find(np.array([7, 9], np.uint64)).tolist(), len(index)
    (1, [0, 2], 1)
    """

    def __init__(self) -> None:
        self.size_1 = np.zeros(1, np.int64)
        self._allocate(_FIRST_CAPACITY)

    def _allocate(self, capacity: int) -> None:
        self.keys_S = np.zeros(capacity, np.uint64)
        self.rows_S = np.zeros(capacity, np.int32)

    def __len__(self) -> int:
        return int(self.size_1[0])

    @property
    def nbytes(self) -> int:
        """12 bytes per slot."""
        return self.keys_S.nbytes + self.rows_S.nbytes

    def find(self, keys_N: np.ndarray) -> np.ndarray:
        """Row of each key, or `NO_ROW`; shape (N,), int32."""
        return find_many(self.keys_S, self.rows_S, keys_N)

    def find_or_number(self, keys_N: np.ndarray) -> np.ndarray:
        """Row of each key, where new ones are numbered on; only for an index from which nothing is removed."""
        rows_N, done = np.empty(len(keys_N), np.int32), 0
        while (done := _find_or_number(self.keys_S, self.rows_S, self.size_1, keys_N, rows_N, done)) < len(keys_N):
            self.grow()
        return rows_N

    def insert(self, keys_N: np.ndarray, rows_N: np.ndarray) -> None:
        """Note the rows of keys that are not there yet, and differ."""
        while not has_room(self.keys_S, len(self) + len(keys_N) - 1):
            self.grow()
        _insert_all(self.keys_S, self.rows_S, keys_N, rows_N)
        self.size_1[0] += len(keys_N)

    def remove(self, key: int) -> int:
        """Forget a key; returns the row it had, or `NO_ROW`."""
        row = remove(self.keys_S, self.rows_S, np.uint64(key))
        self.size_1[0] -= row != NO_ROW
        return row

    def grow(self) -> None:
        """Twice as many slots."""
        keys_S, rows_S = self.keys_S, self.rows_S
        self._allocate(2 * len(keys_S))
        _insert_all(self.keys_S, self.rows_S, keys_S, rows_S)

    def clear(self) -> None:
        """Forget everything."""
        self.size_1[0] = 0
        self._allocate(_FIRST_CAPACITY)


class SharedIndex(Index):
    """An index that one process changes and others read: the slots of every size it may have are reserved at once.

    Args:
        max_keys: as many as it will ever hold.

    Whoever reads calls `attach` when it may have grown.
    """

    def __init__(self, max_keys: int) -> None:
        sizes = [_FIRST_CAPACITY]
        while not sizes[-1] * _MAX_LOAD >= max_keys + 1:
            sizes.append(2 * sizes[-1])
        self._sizes = [(reserve((size,), np.uint64), reserve((size,), np.int32)) for size in sizes]
        self._at_1 = reserve((1,), np.int64)
        self.size_1 = reserve((1,), np.int64)
        self.attach()

    def attach(self) -> None:
        """Take the slots that are in use."""
        self.keys_S, self.rows_S = self._sizes[int(self._at_1[0])]

    def grow(self) -> None:
        """Twice as many slots."""
        before = self.keys_S, self.rows_S
        self._at_1[0] += 1
        self.attach()
        _insert_all(self.keys_S, self.rows_S, *before)
        for array in before:
            give_back(array)

    def clear(self) -> None:
        """Forget everything."""
        for arrays in self._sizes:
            for array in arrays:
                give_back(array)
        self.size_1[0] = self._at_1[0] = 0
        self.attach()
