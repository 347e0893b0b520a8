"""What a micro-batch takes of the table's rows, and its step on them."""

import numpy as np

from learner.tables.compiled import compiled, compiled_maker

_SALT = np.uint64(0x9E3779B97F4A7C15)
EPSILON = np.float32(1e-10)
"""Added to a root before it divides."""


@compiled_maker
def distinct(rows_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows in the order in which they come, and which of them each is; both int64.

    >>> [each.tolist() for each in distinct(np.array([7, 3, 7, 0]))]
    [[7, 3, 0], [0, 1, 0, 2]]
    """
    size, bits = 16, 4
    while size < 2 * len(rows_N):
        size, bits = 2 * size, bits + 1
    slots, rows_U = np.full(size, -1, np.int64), np.empty(len(rows_N), np.int64)
    at_N = np.empty(len(rows_N), np.int64)
    num = 0
    for n in range(len(rows_N)):
        slot = np.int64((np.uint64(rows_N[n]) * _SALT) >> np.uint64(64 - bits))
        while slots[slot] >= 0 and rows_U[slots[slot]] != rows_N[n]:
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot], rows_U[num] = num, rows_N[n]
            num += 1
        at_N[n] = slots[slot]
    return rows_U[:num], at_N


@compiled
def adagrad(
    values_RW: np.ndarray,
    squares_RW: np.ndarray,
    rows_U: np.ndarray,
    grad_UW: np.ndarray,
    share: np.float32,
    lr: np.float32,
) -> None:
    """One step of Adagrad per coordinate (Duchi et al. 2011) on rows, each of which is there once.

    Args:
        values_RW: float32, changed.
        squares_RW: sums of squared gradients, changed.
        rows_U: of the micro-batch. Row 0 stands for what has no row, and stays.
        grad_UW: their gradients.
        share: what gradients are multiplied by.
        lr: learning rate.
    """
    for u in range(len(rows_U)):
        row = rows_U[u]
        if row > 0:
            for w in range(grad_UW.shape[1]):
                grad = grad_UW[u, w] * share
                squares_RW[row, w] += grad * grad
                values_RW[row, w] -= lr * grad / (np.sqrt(squares_RW[row, w]) + EPSILON)
