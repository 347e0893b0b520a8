"""Test samples by how often their user, or their item, is in the training part."""

from collections.abc import Iterator

import numpy as np

from simulators.experiments.ratings import Ratings
from simulators.experiments.split import Split

_COLDEST = 3
"""Deciles that are shown one by one."""


def cohorts_of(ratings: Ratings, split: Split) -> Iterator[tuple[str, np.ndarray]]:
    """Name -> which test samples; shape (N,), booleans.

    Deciles are of the users, and of the items, that have any sample in the split; those with equally many training
    samples are in the same one.
    """
    for kind, entities_N, size in (
        ("users", ratings.users_N, len(ratings.users.ids_E)),
        ("items", ratings.items_N, len(ratings.items.ids_E)),
    ):
        counts_E = np.bincount(entities_N[split.train_N], minlength=size)
        here = np.unique(entities_N[np.concatenate(split)])
        bounds = np.quantile(counts_E[here], np.arange(1, _COLDEST + 1) / 10, method="lower")
        decile_N = np.searchsorted(bounds, counts_E[entities_N[split.test_N]], side="left")
        for decile in range(_COLDEST):
            yield f"{kind}, decile {decile + 1}", decile_N == decile
        yield f"{kind}, deciles {_COLDEST + 1} to 10", decile_N == _COLDEST
