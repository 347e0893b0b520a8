"""Levels: which stretch of impressions a user, and an item, is in, as of a sample."""

from collections.abc import Sequence

import numpy as np

from learner.samples.columns import Samples


def levels_of(samples: Samples, user_bounds: Sequence[int], item_bounds: Sequence[int]) -> np.ndarray:
    """Numbers of the levels of user and item, shape (B, 2), int64.

    Args:
        samples: B of them.
        user_bounds: lower bounds of the users' levels but the first, in impressions.
        item_bounds: of the items'.
    """
    levels_B2 = np.empty((len(samples), 2), np.int64)
    for column, (name, bounds) in enumerate((("user_counts", user_bounds), ("item_counts", item_bounds))):
        levels_B2[:, column] = np.searchsorted(np.array(bounds), samples.rows_B[name][:, 0], side="right")
    return levels_B2
