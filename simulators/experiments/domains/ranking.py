"""How far up the item stands that was taken next: among all, and among a hundred drawn ones.

Legend: U users, J items, C drawn items of each user.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simulators.experiments.domains.data import Domain

CUTS = (1, 5, 10)
NUM_DRAWN = 100
TEST, VALIDATE = 1, 2
"""Which item from the end is asked for."""
_AT_ONCE = 512

Scores = Callable[[list[np.ndarray]], np.ndarray]
"""Histories -> scores of items 1 .. J, shape (histories, J)."""


class Asked(NamedTuple):
    """What is asked: of each user what came before, and what came."""

    histories: list[np.ndarray]
    next_U: np.ndarray
    drawn_UC: np.ndarray
    """Items that the user never took, each once."""


def asked(domain: Domain, last: int, seed: int) -> Asked:
    """Leave one out.

    Args:
        domain: whose users.
        last: `TEST`, or `VALIDATE`.
        seed: of the drawn items.
    """
    rng, drawn = np.random.default_rng((seed, last)), []
    for items in domain.sequences:
        # More than enough, but for who took nearly all there is.
        tried = rng.permutation(domain.num_items)[: NUM_DRAWN + len(items)] + 1
        drawn.append(tried[~np.isin(tried, items)][:NUM_DRAWN])
    fewest = min(map(len, drawn))
    histories = [items[:-last] for items in domain.sequences]
    next_U = np.array([items[-last] for items in domain.sequences])
    return Asked(histories, next_U, np.stack([each[:fewest] for each in drawn]))


class Ranks(NamedTuple):
    """Of each user's next item, from 0; equal scores count half."""

    full_U: np.ndarray
    """Among all items, those of the history too."""
    drawn_U: np.ndarray
    """Among the drawn ones."""


def ranks(scores: Scores, what: Asked) -> Ranks:
    """Rank every user's next item."""
    full, drawn = [], []
    for at in range(0, len(what.histories), _AT_ONCE):
        rows = slice(at, at + _AT_ONCE)
        scores_UJ = scores(what.histories[rows])
        own_U1 = np.take_along_axis(scores_UJ, what.next_U[rows, None] - 1, axis=1)
        full.append(_above(scores_UJ, own_U1) - 0.5)
        drawn.append(_above(np.take_along_axis(scores_UJ, what.drawn_UC[rows] - 1, axis=1), own_U1))
    return Ranks(np.concatenate(full), np.concatenate(drawn))


def _above(scores_UN: np.ndarray, own_U1: np.ndarray) -> np.ndarray:
    above_U: np.ndarray = (scores_UN > own_U1).sum(axis=1) + 0.5 * (scores_UN == own_U1).sum(axis=1)
    return above_U


def gains(ranks_U: np.ndarray) -> Mapping[str, np.ndarray]:
    """Of each user: hit rate and NDCG at each cut; with one relevant item that is 1 / log2(2 + rank), or 0.

    >>> found = gains(np.array([0.0, 2.0, 20.0]))
    >>> found["HR@1"].tolist(), found["NDCG@5"].tolist()
    ([1.0, 0.0, 0.0], [1.0, 0.5, 0.0])
    """
    found: dict[str, np.ndarray] = {}
    for cut in CUTS:
        hit_U = ranks_U < cut
        found[f"HR@{cut}"] = hit_U.astype(np.float64)
        found[f"NDCG@{cut}"] = np.where(hit_U, 1.0 / np.log2(2.0 + ranks_U), 0.0)
    return found


def popularity(domain: Domain) -> Scores:
    """Items by how often they were taken in what may be learned from."""
    taken = np.concatenate([items[:-VALIDATE] for items in domain.sequences])
    counts_J = np.bincount(taken, minlength=domain.num_items + 1)[1:].astype(np.float64)
    return lambda histories: np.tile(counts_J, (len(histories), 1))


def by_text(compared_JE: np.ndarray) -> Scores:
    """Items by how like the mean text of the history theirs is: nothing is learned of behaviour."""

    def scores(histories: list[np.ndarray]) -> np.ndarray:
        means_UE = np.stack([compared_JE[items - 1].mean(axis=0) for items in histories])
        found: np.ndarray = means_UE @ compared_JE.T
        return found

    return scores


def names() -> Sequence[str]:
    """Of all figures, in order; NDCG@1 is HR@1."""
    return [name for cut in CUTS for name in (f"HR@{cut}", f"NDCG@{cut}") if name != "NDCG@1"]
