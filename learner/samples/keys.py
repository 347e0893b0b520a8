"""Values of fields -> 64-bit keys: the one definition for stream, backfill and scorer.

A key is XXH3 (64 bits) of the value's UTF-8 bytes, seeded with that of the field's name. Two of n values share a key
with a probability of about n² / 2^65: 3 in a million for ten million ids, 3 in ten thousand for a hundred million.
Those two would then be learned as one.
"""

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import TypeVar

from xxhash import xxh3_64_intdigest

_T = TypeVar("_T")
NO_KEY = 0
"""Of a value that is missing."""
_MAX_CACHED, _LONGEST_CACHED = 1 << 16, 256


@cache
def seed_of(field: str) -> int:
    """By which keys of a field's values differ from those of another's."""
    return int(xxh3_64_intdigest(field.encode()))


def value_key(field: str, value: str) -> int:
    """Key of a field's value, 1 to 2^64 - 1. A numeric field has that of the empty string.

    >>> hex(value_key("user_id", "17")), value_key("user_id", "17") == value_key("item_id", "17")
    ('0x2a1d530584500692', False)
    """
    # Zero means that there is no value.
    return int(xxh3_64_intdigest(value.encode(), seed_of(field))) or 1


@lru_cache(maxsize=256)
def arm_key(name: str) -> int:
    """Number of an arm of an experiment, by which samples name it: 0 for none.

    >>> arm_key(""), hex(arm_key("wide"))
    (0, '0xeda4e14a89290cf4')
    """
    return (int(xxh3_64_intdigest(name.encode())) or 1) if name else 0


class _Known(dict[str, _T]):
    """What was found of values, made where it is not known; one that is long is not kept, and all is forgotten when
    there are too many."""

    def __init__(self, find: Callable[[str], _T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, value: str) -> _T:
        found = self._find(value)
        if len(value) <= _LONGEST_CACHED:
            if len(self) >= _MAX_CACHED:
                self.clear()
            self[value] = found
        return found


class KeyCache:
    """Keys of one field's values, those that came lately without computing them again."""

    def __init__(self, field: str) -> None:
        self._known = _Known(lambda value: value_key(field, value))
        self._known_bytes = _Known(lambda value: value_key(field, value).to_bytes(8, "little"))
        self.key: Callable[[str], int] = self._known.__getitem__
        """The key of a value."""
        self._packed: Callable[[str], bytes] = self._known_bytes.__getitem__

    def packed(self, values: Iterable[str]) -> bytes:
        """Keys of several values, eight bytes each, little endian."""
        return b"".join(map(self._packed, values))
