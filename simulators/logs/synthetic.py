"""A synthetic rating log, for when no data set is within reach: latent tastes, users that arrive over time."""

import numpy as np
import polars as pl

from simulators.logs.log import Delay, FeatureTable, FeedbackRule, FrameLog
from stream.events import RawFeature

NAME = "synthetic"
_POSITIVE_RATING = 4
_DIM = 4
_START_MS = 946_684_800_000
_AGES = ("1", "18", "25", "35", "45", "50", "56")
_GENRES = ("action", "comedy", "drama", "romance", "thriller", "western")


def make_log(num_ratings: int, seed: int, *, num_users: int = 1000, num_items: int = 500) -> FrameLog:
    """Ratings from inner products of latent tastes, in the form of MovieLens: each is an impression, one of 4 or more
    is followed by a like.

    >>> make_log(100, seed=0).span()[0]
    100
    """
    rng = np.random.default_rng(seed)
    centres_GD = rng.normal(size=(len(_GENRES), _DIM))
    genre_I = rng.integers(len(_GENRES), size=num_items)
    items_ID = centres_GD[genre_I] + 0.5 * rng.normal(size=(num_items, _DIM))
    tastes_AD = rng.normal(size=(len(_AGES), _DIM))
    age_U = rng.integers(len(_AGES), size=num_users)
    users_UD = tastes_AD[age_U] + 0.5 * rng.normal(size=(num_users, _DIM))
    quality_I = rng.normal(size=num_items)
    popularity_I = rng.zipf(1.5, size=num_items).astype(np.float64)
    # Users come in sessions of some 20 ratings; later sessions draw from more users.
    session_N = np.arange(num_ratings) // 20
    arrived_S = np.maximum(1, num_users * (np.arange(session_N[-1] + 1) + 1) // (session_N[-1] + 1))
    user_N = rng.integers(0, arrived_S)[session_N]
    item_N = rng.choice(num_items, size=num_ratings, p=popularity_I / popularity_I.sum())
    score_N = (
        (users_UD[user_N] * items_ID[item_N]).sum(1) / _DIM + quality_I[item_N] + 0.5 * rng.normal(size=num_ratings)
    )
    rating_N = np.clip(np.round(3.6 + score_N), 1, 5).astype(np.int8)
    ts_N = _START_MS + np.cumsum(rng.integers(500, 5000, size=num_ratings))
    rows = pl.DataFrame(
        {
            "user_id": user_N.astype(str),
            "item_id": item_N.astype(str),
            "ts": ts_N,
            "imp_id": [f"r{n}" for n in range(num_ratings)],
            "shown": np.ones(num_ratings, np.bool_),
            "feedback.0": rating_N >= _POSITIVE_RATING,
        }
    )
    users: dict[str, dict[str, RawFeature]] = {
        str(u): {"gender": "MF"[u % 2], "age": _AGES[age_U[u]], "occupation": str(u % 20)} for u in range(num_users)
    }
    items: dict[str, dict[str, RawFeature]] = {
        str(i): {"title": [f"item{i}"], "year": str(1980 + i % 40), "genres": [_GENRES[genre_I[i]]]}
        for i in range(num_items)
    }
    rule = FeedbackRule("like", Delay(median_s=20, sigma=1.5))
    tables = FeatureTable(users), FeatureTable(items)
    return FrameLog(NAME, rows, (rule,), *tables, source=NAME, licence="none: made up")
