"""Exact top-N by inner product.

Legend: Q queries, I items, E length of vectors, N results.
"""

from collections.abc import Sequence

import numpy as np

_BLOCK = 512
"""Queries whose scores are in memory at a time."""


def exact_top(
    queries_QE: np.ndarray,
    items_IE: np.ndarray,
    num: int,
    *,
    without: Sequence[np.ndarray] | None = None,
    block: int = _BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """The items with the greatest inner products, best first; of equal ones the one of the lower number.

    Args:
        queries_QE: user vectors.
        items_IE: item vectors.
        num: N, items per query.
        without: numbers of items that a query must not get, for each of them.
        block: queries at a time.

    Returns:
        Numbers of items (Q, N), int64, and their scores. Where fewer than N are left, -1 and minus infinity.

    Raises:
        ValueError: N below 1, vectors of different lengths, or a vector that is not finite.

    >>> items, scores = exact_top(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [3.0, 1.0], [2.0, 5.0]]), 2)
    >>> items.tolist(), scores.tolist()
    ([[1, 0]], [[3.0, 2.0]])
    """
    if num < 1:
        raise ValueError(f"so many items cannot be found: {num}; N must be 1 or more")
    if queries_QE.shape[1] != items_IE.shape[1]:
        raise ValueError(f"user vectors have {queries_QE.shape[1]} numbers, item vectors {items_IE.shape[1]}")
    if not (np.isfinite(queries_QE).all() and np.isfinite(items_IE).all()):
        raise ValueError("a user or item vector is not finite: the model has diverged; lower its learning rates")
    num_queries, num_found = len(queries_QE), min(num, len(items_IE))
    found_QN = np.full((num_queries, num), -1, np.int64)
    scores_QN = np.full((num_queries, num), -np.inf, np.result_type(queries_QE, items_IE))
    for start in range(0, num_queries if num_found else 0, block):
        scores_bI = queries_QE[start : start + block] @ items_IE.T
        for b, excluded in enumerate((without or ())[start : start + block]):
            scores_bI[b, excluded] = -np.inf
        items_bN = _top(scores_bI, num_found)
        of_bN = np.take_along_axis(scores_bI, items_bN, axis=1)
        items_bN[np.isneginf(of_bN)] = -1
        found_QN[start : start + block, :num_found] = items_bN
        scores_QN[start : start + block, :num_found] = of_bN
    return found_QN, scores_QN


def popular_top(
    num_queries: int, item_counts_I2: np.ndarray, num: int, *, without: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The items with most positives, for every query alike: what every retrieval has to beat.

    Args:
        num_queries: Q.
        item_counts_I2: impressions and positives of each.
        num: N, items per query.
        without: as for `exact_top`.
    """
    return exact_top(np.ones((num_queries, 1)), item_counts_I2[:, 1:].astype(np.float64), num, without=without)


def _top(scores_bI: np.ndarray, num: int) -> np.ndarray:
    """Numbers of the `num` greatest of each row, greatest first; ties by number."""
    # Those above the num-th greatest score are in; of those equal to it the first ones, as many as are left.
    least_b1 = -np.partition(-scores_bI, num - 1, axis=1)[:, num - 1 : num]
    above_bI, equal_bI = scores_bI > least_b1, scores_bI == least_b1
    left_b1 = num - above_bI.sum(axis=1, keepdims=True)
    in_bI = above_bI | (equal_bI & (np.cumsum(equal_bI, axis=1) <= left_b1))
    items_bN = np.nonzero(in_bI)[1].reshape(len(scores_bI), num)
    order_bN = np.argsort(-np.take_along_axis(scores_bI, items_bN, axis=1), axis=1, kind="stable")
    return np.take_along_axis(items_bN, order_bN, axis=1)
