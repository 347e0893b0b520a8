"""Values of fields -> 64-bit keys: the one definition for stream, backfill and scorer.

A key is XXH3 (64 bits) of the value's UTF-8 bytes, seeded with that of the field's name. Two of n values share a key
with a probability of about n² / 2^65: 3 in a million for ten million ids, 3 in ten thousand for a hundred million.
Those two would then be learned as one.
"""

from functools import cache, lru_cache
from typing import TypeVar

from xxhash import xxh3_64_intdigest

_T = TypeVar("_T")
NO_KEY = 0
"""Of a value that is missing."""
_MAX_CACHED, _LONGEST_CACHED = 1 << 16, 256


@cache
def _seed_of(field: str) -> int:
    return int(xxh3_64_intdigest(field.encode()))


def value_key(field: str, value: str) -> int:
    """Key of a field's value, 1 to 2^64 - 1. A numeric field has that of the empty string.

    >>> hex(value_key("user_id", "17")), value_key("user_id", "17") == value_key("item_id", "17")
    ('0x2a1d530584500692', False)
    """
    # Zero means that there is no value.
    return int(xxh3_64_intdigest(value.encode(), _seed_of(field))) or 1


@lru_cache(maxsize=256)
def arm_key(name: str) -> int:
    """Number of an arm of an experiment, by which samples name it: 0 for none.

    >>> arm_key(""), hex(arm_key("wide"))
    (0, '0xeda4e14a89290cf4')
    """
    return (int(xxh3_64_intdigest(name.encode())) or 1) if name else 0


class KeyCache:
    """Keys of one field's values, those that came lately without computing them again."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._known: dict[str, int] = {}
        self._known_bytes: dict[str, bytes] = {}

    def key(self, value: str) -> int:
        """The key of a value."""
        found = self._known.get(value)
        if found is None:
            found = value_key(self._field, value)
            _remember(self._known, value, found)
        return found

    def packed(self, values: list[str]) -> bytes:
        """Keys of several values, eight bytes each, little endian."""
        known = self._known_bytes
        try:
            return b"".join([known[value] for value in values])
        except KeyError:
            return b"".join([self._packed_one(value) for value in values])

    def _packed_one(self, value: str) -> bytes:
        found = self._known_bytes.get(value)
        if found is None:
            found = value_key(self._field, value).to_bytes(8, "little")
            _remember(self._known_bytes, value, found)
        return found


def _remember(known: dict[str, _T], value: str, found: _T) -> None:
    """Keep what was found of a value, unless it is long; all is forgotten when too many are kept."""
    if len(value) <= _LONGEST_CACHED:
        if len(known) >= _MAX_CACHED:
            known.clear()
        known[value] = found
