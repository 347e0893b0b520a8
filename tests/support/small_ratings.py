"""A small log of ratings: who likes what depends on user, item, and both."""

import numpy as np
import polars as pl

from learner.config import FieldSettings
from simulators.experiments.ratings import Ratings, ratings_of
from simulators.logs.log import FeatureTable, FeedbackRule, FrameLog

NUM_USERS, NUM_ITEMS = 30, 24
FIELDS = (
    FieldSettings("user_id", "user", "id", state=True),
    FieldSettings("age", "user", "categorical"),
    FieldSettings("item_id", "item", "id", state=True),
    FieldSettings("genre", "item", "categorical"),
    FieldSettings("title", "item", "multi"),
)


def small_ratings_log(num_rows: int, seed: int = 0) -> FrameLog:
    """So many ratings, a second apart; users and items are seen with falling frequency."""
    rng = np.random.default_rng(seed)
    user = np.minimum(rng.geometric(0.08, num_rows) - 1, NUM_USERS - 1)
    item = np.minimum(rng.geometric(0.1, num_rows) - 1, NUM_ITEMS - 1)
    levels_U, levels_I = rng.normal(0, 0.8, NUM_USERS), rng.normal(0, 1.2, NUM_ITEMS)
    logit = levels_U[user] + levels_I[item] + 1.5 * np.where(user % 3 == item % 4, 1.0, -0.3)
    rows = pl.DataFrame(
        {
            "user_id": np.char.add("u", user.astype(str)),
            "item_id": np.char.add("i", item.astype(str)),
            "ts": 10**12 + 1000 * np.arange(num_rows),
            "imp_id": np.char.add("r", np.arange(num_rows).astype(str)),
            "shown": np.ones(num_rows, bool),
            "feedback.0": rng.random(num_rows) < 1 / (1 + np.exp(-logit)),
        }
    )
    users = FeatureTable({f"u{n}": {"age": f"a{n % 3}"} for n in range(NUM_USERS)})
    items = FeatureTable(
        {f"i{n}": {"genre": f"g{n % 4}", "title": [f"w{k}" for k in range(n % 3)]} for n in range(NUM_ITEMS)}
    )
    return FrameLog("small-ratings", rows, (FeedbackRule("like"),), users, items, source="made")


def small_ratings(num_rows: int, seed: int = 0) -> Ratings:
    """The same as numbers."""
    return ratings_of(small_ratings_log(num_rows, seed), FIELDS)
