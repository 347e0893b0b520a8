"""Which of N processes a key belongs to."""

import numpy as np

from learner.tables.compiled import compiled_maker
from learner.tables.hashing import mix


@compiled_maker
def owners(keys_K: np.ndarray, num_ranks: int) -> np.ndarray:
    """Rank of each key, 0 to `num_ranks` - 1, int64.

    >>> owners(np.array([1, 2, 3], np.uint64), 1).tolist()
    [0, 0, 0]
    """
    ranks_K = np.empty(len(keys_K), np.int64)
    for k in range(len(keys_K)):
        # Not the bits by which an index places a key: else each rank's rows would lie in one part of it.
        ranks_K[k] = np.int64((mix(keys_K[k]) >> np.uint64(32)) % np.uint64(num_ranks))
    return ranks_K
