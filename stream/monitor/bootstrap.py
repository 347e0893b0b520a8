"""Bootstrap over users, in one pass: each replicate gives each user a weight of its own, drawn from Poisson(1).

So a user's impressions, which resemble each other, are left out or repeated together; and a replicate is a sum like any
other, which buckets can keep (Oza and Russell 2001; Chamandy et al. 2012, "Estimating uncertainty for massive data
streams").
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

NUM_REPLICATES = 24
"""R: the standard error that comes of them is itself known to 15 %."""
_NUM_GROUPS = 8192
"""Users that share a group share their weights."""
_SEED = 20_250_115
_BASE = 0x9E3779B97F4A7C15
_MIX = [(np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB))]


def _draw() -> np.ndarray:
    weights_GR = np.random.default_rng(_SEED).poisson(1.0, (_NUM_GROUPS, 1 + NUM_REPLICATES)).astype(np.float64)
    weights_GR[:, 0] = 1.0
    return weights_GR


_WEIGHTS_GR = _draw()


def user_hashes(user_ids: Sequence[str]) -> np.ndarray:
    """A number below 2^32 per user id, the same in every process; in one pass, as the learner does it for every sample.

    A polynomial in the id's bytes, modulo 2^64, whose bits are then mixed (the finaliser of SplitMix64).

    >>> user_hashes(["1", "2", "1"]).tolist()
    [3566269532, 3819870894, 3566269532]
    """
    # Each id behind a NUL; those in an id itself, if there should be any, are something else.
    joined = "\0".join(["", *user_ids])
    if joined.count("\0") > len(user_ids):
        joined = "\0".join(["", *(user_id.replace("\0", "\1") for user_id in user_ids)])
    bytes_X = np.frombuffer(joined.encode(), np.uint8)
    starts_N = np.flatnonzero(bytes_X == 0)
    if not len(starts_N):
        return starts_N
    lengths_N = np.diff(starts_N, append=len(bytes_X))
    at_X = np.arange(len(bytes_X)) - np.repeat(starts_N, lengths_N)
    mixed_N = np.add.reduceat(bytes_X * _powers(int(lengths_N.max()))[at_X], starts_N)
    for shift, factor in _MIX:
        mixed_N = (mixed_N ^ (mixed_N >> shift)) * factor
    hashes_N: np.ndarray = (mixed_N >> np.uint64(32)).astype(np.int64)
    return hashes_N


@lru_cache
def _powers(size: int) -> np.ndarray:
    return np.cumprod(np.full(size, _BASE, np.uint64))


def replicate_weights(hashes_N: np.ndarray) -> np.ndarray:
    """Weights of each user's samples: 1 in column 0, which is the figure itself, then one per replicate.

    Args:
        hashes_N: from `user_hashes`.

    Returns:
        shape (N, 1 + R).
    """
    weights: np.ndarray = _WEIGHTS_GR[hashes_N % _NUM_GROUPS]
    return weights
