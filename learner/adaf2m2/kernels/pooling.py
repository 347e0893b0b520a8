"""Rows -> embeddings of fields, and gradients back to the rows: `embedding_bag` for what a field has, one value mostly.

On a CPU it is compiled: torch sorts the occurrences to go back, which takes longer than both ways together do here.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.kernels.arrays import arrays_of
from learner.tables.compiled import compiled


def pooled(rows_UW: Tensor, occurrence_N: Tensor, offsets_X: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums of rows; zeros where there is none.

    Args:
        rows_UW: W = D + 1: embedding, and first-order weight. Float32.
        occurrence_N: index into them, int64.
        offsets_X: where the occurrences of each of X fields begin, int64.
        weights_N: of each occurrence, float32.

    Returns:
        Embeddings, shape (X, D), and first-order terms, shape (X,).

    >>> rows = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    >>> emb, first = pooled(rows, torch.tensor([0, 1, 1]), torch.tensor([0, 2, 2]), torch.tensor([1.0, 0.5, 1.0]))
    >>> emb.tolist(), first.tolist()
    ([[6.0, 12.0], [0.0, 0.0], [10.0, 20.0]], [18.0, 0.0, 30.0])
    """
    if rows_UW.device.type != "cpu":
        return _by_torch(rows_UW, occurrence_N, offsets_X, weights_N)
    found: tuple[Tensor, Tensor] = _Pooled.apply(rows_UW, occurrence_N, offsets_X, weights_N)  # type: ignore[no-untyped-call]
    return found


def _by_torch(rows_UW: Tensor, occurrence_N: Tensor, offsets_X: Tensor, weights_N: Tensor) -> tuple[Tensor, Tensor]:
    """On other devices. Shapes follow from shapes and no value is looked at, so that it can be recorded."""
    numbers_N = torch.arange(len(occurrence_N), device=rows_UW.device)
    field_N = torch.searchsorted(offsets_X, numbers_N, right=True) - 1
    weighed_NW = rows_UW.index_select(0, occurrence_N) * weights_N.unsqueeze(1)
    both_XW = rows_UW.new_zeros(len(offsets_X), rows_UW.shape[1]).index_add(0, field_N, weighed_NW)
    return both_XW[:, :-1], both_XW[:, -1]


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows_UW: Tensor, occurrence_N: Tensor, offsets_X: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(occurrence_N, offsets_X, weights_N)
        ctx.shape = rows_UW.shape
        emb_XD, first_X = rows_UW.new_empty(len(offsets_X), rows_UW.shape[1] - 1), rows_UW.new_empty(len(offsets_X))
        _pool(*arrays_of(rows_UW, occurrence_N, offsets_X, weights_N, emb_XD, first_X))
        return emb_XD, first_X

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_XD: Tensor, grad_X: Tensor) -> tuple[Tensor | None, ...]:
        grad_UW = grad_XD.new_zeros(ctx.shape)
        _give_back(*arrays_of(grad_UW, *ctx.saved_tensors, grad_XD, grad_X))
        return grad_UW, None, None, None


@compiled
def _pool(
    rows_UW: np.ndarray,
    occurrence_N: np.ndarray,
    offsets_X: np.ndarray,
    weights_N: np.ndarray,
    emb_XD: np.ndarray,
    first_X: np.ndarray,
) -> None:
    num_fields, dim = emb_XD.shape
    for x in range(num_fields):
        end = offsets_X[x + 1] if x + 1 < num_fields else len(occurrence_N)
        emb_XD[x] = 0.0
        first_X[x] = 0.0
        for n in range(offsets_X[x], end):
            u, weight = occurrence_N[n], weights_N[n]
            for d in range(dim):
                emb_XD[x, d] += weight * rows_UW[u, d]
            first_X[x] += weight * rows_UW[u, dim]


@compiled
def _give_back(
    grad_UW: np.ndarray,
    occurrence_N: np.ndarray,
    offsets_X: np.ndarray,
    weights_N: np.ndarray,
    grad_XD: np.ndarray,
    grad_X: np.ndarray,
) -> None:
    num_fields, dim = grad_XD.shape
    for x in range(num_fields):
        end = offsets_X[x + 1] if x + 1 < num_fields else len(occurrence_N)
        for n in range(offsets_X[x], end):
            u, weight = occurrence_N[n], weights_N[n]
            for d in range(dim):
                grad_UW[u, d] += weight * grad_XD[x, d]
            grad_UW[u, dim] += weight * grad_X[x]
