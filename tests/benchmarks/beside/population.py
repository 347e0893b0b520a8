"""A made-up stream of many users and items, as columns: everyone comes at least once, few come often."""

from collections.abc import Iterator

import msgspec
import numpy as np

_LIKED = 0.1
_TAIL = 4.0
"""The n-th of N ids by popularity is drawn in proportion to n to the power of 1/4 - 1."""


class Population(msgspec.Struct, frozen=True):
    """Who there is, and how much happens."""

    users: int
    items: int
    per_user: float
    """Impressions per user in the mean, >= 1."""
    span_ms: int = 86_400_000
    """Event time from the first to the last impression."""

    @property
    def num_impressions(self) -> int:
        """How many there will be."""
        return round(self.users * self.per_user)


class Chunk(msgspec.Struct, frozen=True):
    """Consecutive impressions."""

    first: int
    """Number of the first one."""
    user_N: np.ndarray
    item_N: np.ndarray
    ts_N: np.ndarray
    """Event times, ms, int64, ascending."""
    liked_N: np.ndarray


def chunks(population: Population, seed: int, begin_ms: int, size: int = 20_000) -> Iterator[Chunk]:
    """All impressions in order.

    Args:
        population: of whom.
        seed: of what is drawn.
        begin_ms: event time of the first one.
        size: impressions of a chunk.
    """
    rng, count = np.random.default_rng(seed), population.num_impressions
    for first in range(0, count, size):
        n_N = np.arange(first, min(first + size, count))
        yield Chunk(
            first,
            _drawn(rng, n_N, population.users, count),
            _drawn(rng, n_N, population.items, count),
            begin_ms + n_N * population.span_ms // count,
            rng.random(len(n_N)) < _LIKED,
        )


def _drawn(rng: np.random.Generator, n_N: np.ndarray, num_ids: int, count: int) -> np.ndarray:
    """Ids, of which each is its own turn's at least once, and popular ones at all other turns."""
    # The k-th id is first seen in the k-th of as many equal stretches.
    k_N = n_N * num_ids // count
    is_turn_N = k_N != (n_N - 1) * num_ids // count
    popular_N = (num_ids * rng.random(len(n_N)) ** _TAIL).astype(np.int64)
    return np.where(is_turn_N, k_N, popular_N)
