"""Bootstrap over users, in one pass: each replicate gives each user a weight of its own, drawn from Poisson(1).

So a user's impressions, which resemble each other, are left out or repeated together; and a replicate is a sum like any
other, which buckets can keep (Oza and Russell 2001; Chamandy et al. 2012, "Estimating uncertainty for massive data
streams").
"""

from collections.abc import Iterable

import numpy as np

from learner.samples.keys import value_key

NUM_REPLICATES = 24
"""R: the standard error that comes of them is itself known to 15 %."""
_NUM_GROUPS = 8192
"""Users that share a group share their weights."""
_SEED = 20_250_115


def _draw() -> np.ndarray:
    weights_GR = np.random.default_rng(_SEED).poisson(1.0, (_NUM_GROUPS, 1 + NUM_REPLICATES)).astype(np.float64)
    weights_GR[:, 0] = 1.0
    return weights_GR


_WEIGHTS_GR = _draw()


def hashes_of(user_keys_N: np.ndarray) -> np.ndarray:
    """A number below 2^32 per user, the same in every process: the lower half of the user's key.

    >>> hashes_of(np.array([2**40 + 3], np.uint64)).tolist()
    [3]
    """
    hashes: np.ndarray = (user_keys_N & np.uint64(0xFFFF_FFFF)).astype(np.int64)
    return hashes


def user_hashes(user_ids: Iterable[str]) -> list[int]:
    """The same by user id."""
    return [value_key("user_id", user) & 0xFFFF_FFFF for user in user_ids]


def replicate_weights(hashes_N: np.ndarray) -> np.ndarray:
    """Weights of each user's samples: 1 in column 0, which is the figure itself, then one per replicate.

    Args:
        hashes_N: from `user_hashes`, shape (N,).

    Returns:
        shape (N, 1 + R).
    """
    weights: np.ndarray = _WEIGHTS_GR[hashes_N % _NUM_GROUPS]
    return weights
