"""Opens a log by name."""

from pathlib import Path

import polars as pl

from simulators.logs import movielens, synthetic
from simulators.logs.log import Delay, FeatureTable, FeedbackRule, FrameLog, Log
from simulators.logs.movielens import MovieLens
from state_store.errors import OperatorError

_POSITIVE_RATING = 4
_LIKE = FeedbackRule("like", Delay(median_s=20, sigma=1.5))


class UnknownLogError(OperatorError):
    """No log has this name."""


def open_log(name_or_file: str, data_dir: Path | None, *, seed: int, num_synthetic: int) -> Log:
    """Open a log.

    Args:
        name_or_file: `ml-1m` or `synthetic`.
        data_dir: where its files are; None: where they are looked for by default.
        seed: of a synthetic log.
        num_synthetic: rows of a synthetic log.

    Raises:
        UnknownLogError: no log has this name.
        DataError: its files are out of reach, or not whole.

    >>> open_log("synthetic", None, seed=0, num_synthetic=100).span()[0]
    100
    """
    if name_or_file == "ml-1m":
        return _of_ratings("ml-1m", movielens.load(data_dir), movielens.LICENCE)
    if name_or_file == "synthetic":
        return _of_ratings("synthetic", synthetic.generate(num_synthetic, seed), "")
    raise UnknownLogError(f"--log {name_or_file}: unknown; known: ml-1m, synthetic")


def _of_ratings(name: str, data: MovieLens, licence: str) -> FrameLog:
    """Each rating is an impression; a high one is followed by a `like` after a while."""
    rows = data.ratings.with_row_index("row").select(
        "user_id",
        "item_id",
        "ts",
        pl.format("r{}", "row").alias("imp_id"),
        pl.lit(True).alias("shown"),
        (pl.col("rating") >= _POSITIVE_RATING).alias("feedback.0"),
    )
    users, items = FeatureTable(data.users), FeatureTable(data.items)
    return FrameLog(name, rows, (_LIKE,), users, items, source=data.source, licence=licence)
