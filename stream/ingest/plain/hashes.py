"""Hashes of texts: XXH3, by which values have their keys, and murmur2, by which Kafka chooses partitions.

Both equal the libraries that the rest of the project asks (`learner/samples/keys.py`, `stream/partitioning.py`).
"""

import numpy as np

from learner.tables.compiled import compiled

LONGEST = 128
"""Bytes of a text of which XXH3 is computed here."""

_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
        "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
        "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    ),
    "<u8",
)
"""The first 128 bytes of XXH3's default secret, in words of eight."""
_WORDS = tuple(np.uint64(word) for word in _SECRET)
(_S0, _S8, _S16, _S24, _S32, _S40, _S48, _S56, _S64, _S72, _S80, _S88, _S96, _S104, _S112, _S120) = _WORDS
_S4_LOW, _S0_LOW = np.uint64(int(_S0) >> 32), np.uint64(int(_S0) & 0xFFFF_FFFF)

_PRIME_1, _PRIME_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_3 = np.uint64(0x165667B19E3779F9)
_MIX_1, _MIX_2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_LOW = np.uint64(0xFFFF_FFFF)
_BYTE = np.uint64(0xFF)
(_8, _15, _16, _24, _28, _29, _32, _33, _35, _37, _40, _49, _64) = (
    np.uint64(n) for n in (8, 15, 16, 24, 28, 29, 32, 33, 35, 37, 40, 49, 64)
)
_M2, _R2, _SEED2 = 0x5BD1E995, 24, 0x9747B28C
_32_BITS = 0xFFFF_FFFF


@compiled
def _word4(text: np.ndarray, at: int) -> np.uint64:
    return (
        np.uint64(text[at])
        | np.uint64(text[at + 1]) << _8
        | np.uint64(text[at + 2]) << _16
        | np.uint64(text[at + 3]) << _24
    )


@compiled
def _word8(text: np.ndarray, at: int) -> np.uint64:
    return _word4(text, at) | _word4(text, at + 4) << _32


@compiled
def _reversed(word: np.uint64) -> np.uint64:
    """Bytes of a word in the other order."""
    found = np.uint64(0)
    for _ in range(8):
        found = found << _8 | word & _BYTE
        word >>= _8
    return found


@compiled
def _folded(a: np.uint64, b: np.uint64) -> np.uint64:
    """Halves of the product of 128 bits, one upon the other."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _32, b & _LOW, b >> _32
    low, middle, other, high = a_low * b_low, a_high * b_low, a_low * b_high, a_high * b_high
    carried = (low >> _32) + (middle & _LOW) + other
    upper = (middle >> _32) + (carried >> _32) + high
    lower = carried << _32 | low & _LOW
    return upper ^ lower


@compiled
def _avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> _37
    h *= _MIX_1
    return h ^ h >> _32


@compiled
def _old_avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> _33
    h *= _PRIME_2
    h ^= h >> _29
    h *= _PRIME_3
    return h ^ h >> _32


@compiled
def _mixed(text: np.ndarray, at: int, first: np.uint64, second: np.uint64, seed: np.uint64) -> np.uint64:
    return _folded(_word8(text, at) ^ (first + seed), _word8(text, at + 8) ^ (second - seed))


@compiled
def _of_few(text: np.ndarray, at: int, size: int, seed: np.uint64) -> np.uint64:
    """Of 0 to 16 bytes."""
    num = np.uint64(size)
    if size > 8:
        low = _word8(text, at) ^ ((_S24 ^ _S32) + seed)
        high = _word8(text, at + size - 8) ^ ((_S40 ^ _S48) - seed)
        return _avalanche(num + _reversed(low) + high + _folded(low, high))
    if size >= 4:
        swapped = _reversed(seed & _LOW) >> _32
        seed ^= swapped << _32
        h = (_word4(text, at + size - 4) + (_word4(text, at) << _32)) ^ ((_S8 ^ _S16) - seed)
        h ^= (h << _49 | h >> _15) ^ (h << _24 | h >> _40)
        h *= _MIX_2
        h ^= (h >> _35) + num
        h *= _MIX_2
        return h ^ h >> _28
    if size > 0:
        first, middle, last = np.uint64(text[at]), np.uint64(text[at + (size >> 1)]), np.uint64(text[at + size - 1])
        return _old_avalanche((first << _16 | middle << _24 | last | num << _8) ^ ((_S0_LOW ^ _S4_LOW) + seed))
    return _old_avalanche(seed ^ (_S56 ^ _S64))


@compiled
def xxh3(text: np.ndarray, at: int, end: int, seed: np.uint64) -> np.uint64:
    """XXH3, 64 bits, of at most `LONGEST` bytes of a text.

    >>> from xxhash import xxh3_64_intdigest
    >>> int(xxh3(np.frombuffer(b"a text", np.uint8), 0, 6, np.uint64(7))) == xxh3_64_intdigest(b"a text", 7)
    True
    """
    size = end - at
    if size <= 16:
        return _of_few(text, at, size, seed)
    total = np.uint64(size) * _PRIME_1
    if size > 32:
        if size > 64:
            if size > 96:
                total += _mixed(text, at + 48, _S96, _S104, seed) + _mixed(text, end - 64, _S112, _S120, seed)
            total += _mixed(text, at + 32, _S64, _S72, seed) + _mixed(text, end - 48, _S80, _S88, seed)
        total += _mixed(text, at + 16, _S32, _S40, seed) + _mixed(text, end - 32, _S48, _S56, seed)
    total += _mixed(text, at, _S0, _S8, seed) + _mixed(text, end - 16, _S16, _S24, seed)
    return _avalanche(total)


@compiled
def murmur2(text: np.ndarray, at: int, end: int) -> int:
    """Kafka's murmur2 of a text, 0 to 2^32 - 1.

    >>> from kafka.partitioner.default import murmur2 as known
    >>> murmur2(np.frombuffer(b"a text", np.uint8), 0, 6) == known(b"a text")
    True
    """
    size = end - at
    h = _SEED2 ^ size
    for word_at in range(at, end - size % 4, 4):
        k: int = text[word_at] | text[word_at + 1] << 8 | text[word_at + 2] << 16 | text[word_at + 3] << 24
        k = k * _M2 & _32_BITS
        k ^= k >> _R2
        k = k * _M2 & _32_BITS
        h = (h * _M2 & _32_BITS) ^ k
    rest = end - size % 4
    if size % 4 > 2:
        h ^= text[rest + 2] << 16
    if size % 4 > 1:
        h ^= text[rest + 1] << 8
    if size % 4:
        h = (h ^ text[rest]) * _M2 & _32_BITS
    h ^= h >> 13
    h = h * _M2 & _32_BITS
    return h ^ h >> 15
