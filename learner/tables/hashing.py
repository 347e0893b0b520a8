"""Hashes of 64-bit keys, and standard normal values that depend on a key alone."""

import numpy as np

from learner.tables.compiled import compiled

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_SHIFT_TO_53_BITS = np.uint64(11)


@compiled
def mix(key: np.uint64) -> np.uint64:
    """SplitMix64's step: a bijection of 64 bits in which every bit of the key moves every bit of the result.

    Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, figure 14 (Stafford's mix 13).

    >>> hex(mix(np.uint64(0)))
    '0xe220a8397b1dcdaf'
    """
    z = key + _GOLDEN
    z = (z ^ (z >> _SHIFT_1)) * _FACTOR_1
    z = (z ^ (z >> _SHIFT_2)) * _FACTOR_2
    return z ^ (z >> _SHIFT_3)


@compiled
def cross_key(a: np.uint64, b: np.uint64, salt: np.uint64) -> np.uint64:
    """Key of two values together, in this order; 0, which is no value, if either is none.

    Args:
        a: key of the one.
        b: key of the other.
        salt: which cross it is.
    """
    if a == _NONE or b == _NONE:  # noqa: PLR1714 (twice as quick to compile as a tuple)
        return _NONE
    key = mix(mix(mix(a) + salt) + b)
    return _ONE if key == _NONE else key


@compiled
def normal(key: np.uint64, seed: np.uint64, d: int) -> float:
    """Coordinate `d` of the standard normal vector that belongs to a key under a seed (Box and Muller 1958).

    It depends on nothing else: not on who came first, nor on how a stream was cut into batches.
    """
    stream = mix(mix(key) ^ mix(~seed)) + np.uint64(d >> 1) * (_FACTOR_1 ^ _FACTOR_2)
    first, second = mix(stream), mix(~stream)
    # Of 53 bits each; the first is never 0.
    radius = np.sqrt(-2.0 * np.log((float(first >> _SHIFT_TO_53_BITS) + 1.0) / 9007199254740992.0))
    angle = 2.0 * np.pi * (float(second >> _SHIFT_TO_53_BITS) / 9007199254740992.0)
    return float(radius * (np.sin(angle) if d & 1 else np.cos(angle)))
