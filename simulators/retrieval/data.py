"""A log of ratings as retrieval takes it."""

import numpy as np

from learner.retrieval.entities import Entities
from learner.retrieval.interactions import Interactions
from learner.retrieval.offline import SplitData
from simulators.experiments.ratings import Ratings, Side
from simulators.experiments.split import Split


def entities(side: Side) -> Entities:
    """Users, or items, whose values are numbered by themselves."""
    _, values_N = np.unique(side.rows_V, return_inverse=True)
    return Entities(side.fields_F, side.ids_E, values_N, side.offsets_EF)


def interactions(ratings: Ratings) -> Interactions:
    """All samples, in the order of time."""
    return Interactions(ratings.users_N, ratings.items_N, ratings.labels_N.astype(np.int64), ratings.ts_N)


def split_data(ratings: Ratings, split: Split) -> SplitData:
    """The parts of a split."""
    users, items = entities(ratings.users), entities(ratings.items)
    return SplitData(users, items, interactions(ratings), split.train_N, split.valid_N, split.test_N)
