"""Random splits, and what the training part alone says of users and items."""

from typing import NamedTuple

import numpy as np

from simulators.experiments.ratings import Ratings


class Split(NamedTuple):
    """Numbers of the samples of each part; ascending."""

    train_N: np.ndarray
    valid_N: np.ndarray
    test_N: np.ndarray


def random_split(num_samples: int, seed: int, *, share: float = 1.0) -> Split:
    """6:2:2 at random (AdaF2M2, section 4.1).

    Args:
        num_samples: of the log.
        seed: of the draw.
        share: take so many of the samples, drawn first; for a quick try.

    >>> [len(part) for part in random_split(100, 1)]
    [60, 20, 20]
    """
    order = np.random.default_rng(seed).permutation(num_samples)[: max(5, round(num_samples * share))]
    first, second = round(len(order) * 0.6), round(len(order) * 0.8)
    return Split(*(np.sort(part) for part in np.split(order, [first, second])))


def counts_of(ratings: Ratings, train_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Impressions and positives of each user, and of each item, in the training part alone; shapes (E, 2), float32.

    They are r_count (AdaF2M2, section 3.4). Those of the whole log would tell labels of the test part. A training
    sample's own label is among them, as nothing else is said there; a gate, which no more than weighs fields by them,
    has little use for it.
    """
    labels = ratings.labels_N[train_N].astype(np.float64)
    found = []
    for entities_N, side in ((ratings.users_N, ratings.users), (ratings.items_N, ratings.items)):
        columns = (None, labels)
        size = len(side.ids_E)
        found.append(np.stack([np.bincount(entities_N[train_N], column, size) for column in columns], axis=1))
    users_E2, items_E2 = (counts.astype(np.float32) for counts in found)
    return users_E2, items_E2
