"""Weighted samples, and their masked copies behind them: one pass over the embeddings in each direction.

Legend: B samples, F fields, D of an embedding, K copies, X = B(1 + K).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.kernels.arrays import arrays_of
from learner.tables.compiled import compiled


def with_copies(main_BFD: Tensor, weight_BF: Tensor, emb_BFD: Tensor, default_FD: Tensor, keep_KBF: Tensor) -> Tensor:
    """All of them as one batch, shape (X, F, D).

    Args:
        main_BFD: what is weighed; on a CPU, float32, as all but `keep_KBF`.
        weight_BF: weights of its fields.
        emb_BFD: what copies are made of.
        default_FD: what a masked field is.
        keep_KBF: bool, which fields are not masked.
    """
    found: Tensor = _WithCopies.apply(main_BFD, weight_BF, emb_BFD, default_FD, keep_KBF)  # type: ignore[no-untyped-call]
    return found


class _WithCopies(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, main_BFD: Tensor, weight_BF: Tensor, emb_BFD: Tensor, default_FD: Tensor, keep_KBF: Tensor
    ) -> Tensor:
        ctx.save_for_backward(main_BFD, weight_BF, keep_KBF)
        all_XFD = emb_BFD.new_empty((1 + len(keep_KBF)) * len(emb_BFD), *emb_BFD.shape[1:])
        _put(*arrays_of(main_BFD, weight_BF, emb_BFD, default_FD, keep_KBF, all_XFD))
        return all_XFD

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_XFD: Tensor) -> tuple[Tensor | None, ...]:
        main_BFD, weight_BF, keep_KBF = ctx.saved_tensors
        grads = (
            main_BFD.new_empty(main_BFD.shape),
            weight_BF.new_empty(weight_BF.shape),
            main_BFD.new_empty(main_BFD.shape),
            main_BFD.new_zeros(main_BFD.shape[1:]),
        )
        _give_back(*arrays_of(grad_XFD, main_BFD, weight_BF, keep_KBF, *grads))
        return (*grads, None)


@compiled
def _put(
    main_BFD: np.ndarray,
    weight_BF: np.ndarray,
    emb_BFD: np.ndarray,
    default_FD: np.ndarray,
    keep_KBF: np.ndarray,
    all_XFD: np.ndarray,
) -> None:
    num_samples, num_fields, dim = emb_BFD.shape
    for b in range(num_samples):
        for f in range(num_fields):
            for d in range(dim):
                all_XFD[b, f, d] = main_BFD[b, f, d] * weight_BF[b, f]
    for k in range(len(keep_KBF)):
        for b in range(num_samples):
            x = (1 + k) * num_samples + b
            for f in range(num_fields):
                if keep_KBF[k, b, f]:
                    for d in range(dim):
                        all_XFD[x, f, d] = emb_BFD[b, f, d]
                else:
                    for d in range(dim):
                        all_XFD[x, f, d] = default_FD[f, d]


@compiled
def _give_back(
    grad_XFD: np.ndarray,
    main_BFD: np.ndarray,
    weight_BF: np.ndarray,
    keep_KBF: np.ndarray,
    of_main_BFD: np.ndarray,
    of_weight_BF: np.ndarray,
    of_emb_BFD: np.ndarray,
    of_default_FD: np.ndarray,
) -> None:
    num_samples, num_fields, dim = main_BFD.shape
    for b in range(num_samples):
        for f in range(num_fields):
            total = np.float32(0.0)
            for d in range(dim):
                total += grad_XFD[b, f, d] * main_BFD[b, f, d]
                of_main_BFD[b, f, d] = grad_XFD[b, f, d] * weight_BF[b, f]
                of_emb_BFD[b, f, d] = 0.0
            of_weight_BF[b, f] = total
    for k in range(len(keep_KBF)):
        for b in range(num_samples):
            x = (1 + k) * num_samples + b
            for f in range(num_fields):
                if keep_KBF[k, b, f]:
                    for d in range(dim):
                        of_emb_BFD[b, f, d] += grad_XFD[x, f, d]
                else:
                    for d in range(dim):
                        of_default_FD[f, d] += grad_XFD[x, f, d]
