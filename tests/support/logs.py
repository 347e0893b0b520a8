"""Logs that tests replay."""

import pytest

from simulators.logs.errors import DataError
from simulators.logs.log import Log
from simulators.logs.open import open_log


def synthetic_log(num_rows: int, seed: int) -> Log:
    """Latent tastes; made from the seed."""
    return open_log("synthetic", None, seed=seed, num_synthetic=num_rows)


def movielens_log() -> Log:
    """MovieLens-1M, or the reason why it cannot be had."""
    try:
        return open_log("ml-1m", None, seed=0, num_synthetic=0)
    except DataError as exc:
        pytest.skip(f"MovieLens-1M is out of reach: {exc}")


def movielens_or_synthetic(num_rows: int, seed: int) -> Log:
    """MovieLens-1M, or a synthetic log where it cannot be had."""
    try:
        return open_log("ml-1m", None, seed=seed, num_synthetic=num_rows)
    except DataError:
        return synthetic_log(num_rows, seed)


def first_user(log: Log) -> str:
    """A user that every replay has."""
    user: str = next(log.stretches(num_rows=1))["user_id"][0]
    return user
