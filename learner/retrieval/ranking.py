"""Recall and NDCG of lists of items.

Legend: Q queries, N items found for each.
"""

from collections.abc import Callable, Sequence

import numpy as np


def hits(found_QN: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each item found is relevant, shape (Q, N), bool.

    Args:
        found_QN: numbers of items, best first; -1 for none.
        relevant: numbers of each query's relevant items, each once.
    """
    hits_QN: np.ndarray = np.zeros(found_QN.shape, np.bool_)
    for q, items in enumerate(relevant):
        hits_QN[q] = np.isin(found_QN[q], items)
    return hits_QN & (found_QN >= 0)


def recall(found_QN: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """Recall@N of each query: its relevant items among those found, over all its relevant items; shape (Q,).

    With more than N relevant items it cannot reach 1. NaN where there is none.

    >>> recall(np.array([[3, 1]]), [np.array([1, 5])]).tolist()
    [0.5]
    """
    sizes_Q = np.array([len(items) for items in relevant], np.float64)
    found_Q = hits(found_QN, relevant).sum(axis=1)
    recall_Q: np.ndarray = np.divide(found_Q, sizes_Q, out=np.full(len(sizes_Q), np.nan), where=sizes_Q > 0)
    return recall_Q


def ndcg(found_QN: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """NDCG@N of each query, with gains of 0 and 1; shape (Q,).

    The sum over the ranks r = 1 .. N of relevant items of 1 / log2(1 + r), over that of an ideal list, which has
    min(N, relevant items) of them at its head (Järvelin and Kekäläinen, 2002). NaN where there is no relevant item.

    >>> ndcg(np.array([[3, 1]]), [np.array([1])]).round(4).tolist()
    [0.6309]
    """
    discounts_N = 1.0 / np.log2(np.arange(2, found_QN.shape[1] + 2))
    gains_Q = hits(found_QN, relevant) @ discounts_N
    ideals = np.concatenate([[0.0], np.cumsum(discounts_N)])
    ideal_Q = ideals[np.minimum([len(items) for items in relevant], found_QN.shape[1])]
    ndcg_Q: np.ndarray = np.divide(gains_Q, ideal_Q, out=np.full(len(ideal_Q), np.nan), where=ideal_Q > 0)
    return ndcg_Q


def grouped(keys_N: np.ndarray, values_N: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Distinct values of each key; keys ascend.

    >>> keys, values = grouped(np.array([7, 3, 7, 7]), np.array([1, 2, 5, 1]))
    >>> keys.tolist(), [v.tolist() for v in values]
    ([3, 7], [[2], [1, 5]])
    """
    pairs_N2 = np.unique(np.stack([keys_N, values_N], axis=1), axis=0)
    keys_G, starts_G = np.unique(pairs_N2[:, 0], return_index=True)
    return keys_G, np.split(pairs_N2[:, 1], starts_G[1:]) if len(keys_G) else []


def relevant_of(
    users_P: np.ndarray, items_P: np.ndarray, without: Callable[[np.ndarray], Sequence[np.ndarray]]
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Users with something to be found, what that is, and what they must not be given.

    Args:
        users_P: of positives.
        items_P: likewise.
        without: users, ascending -> the items that each must not be given; these are not relevant either.

    >>> users, relevant, _ = relevant_of(np.array([4, 4, 6]), np.array([1, 2, 2]), lambda _: [np.array([2])] * 2)
    >>> users.tolist(), [items.tolist() for items in relevant]
    ([4], [[1]])
    """
    users_G, items = grouped(users_P, items_P)
    excluded = without(users_G)
    relevant = [np.setdiff1d(mine, gone) for mine, gone in zip(items, excluded, strict=True)]
    kept = [g for g, mine in enumerate(relevant) if len(mine)]
    return users_G[kept], [relevant[g] for g in kept], [excluded[g] for g in kept]
