"""Logits -> loss of a micro-batch and its gradient in one pass; see `learner.adaf2m2.loss`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.kernels.arrays import arrays_of
from learner.tables.compiled import compiled


def mean_loss(
    main_B: Tensor, masked_KB: Tensor | None, told: tuple[Tensor, Tensor, Tensor, Tensor], masked_weight: float = 1.0
) -> Tensor:
    """Mean over the samples that count, a scalar, of the loss whose derivative by a logit is w (p - y) - u p.

    Args:
        main_B: logits, on a CPU, float32, as all of them.
        masked_KB: logits of copies, of which each counts `masked_weight`.
        told: of the samples: y; w; u; and what is added to their logits. One counts unless w and u are 0.
        masked_weight: of the copies.
    """
    if masked_KB is None:
        masked_KB = main_B.new_empty(0, len(main_B))
    found: Tensor = _MeanLoss.apply(main_B, masked_KB, *told, masked_weight)  # type: ignore[no-untyped-call]
    return found


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, main_B: Tensor, masked_KB: Tensor, *told: Any) -> Tensor:
        *columns, masked_weight = told
        grad_B, grad_KB = main_B.new_empty(main_B.shape), main_B.new_empty(masked_KB.shape)
        total = _sum(np.float32(masked_weight), *arrays_of(main_B, masked_KB, *columns, grad_B, grad_KB))
        ctx.save_for_backward(grad_B, grad_KB)
        return main_B.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_B, grad_KB = ctx.saved_tensors
        return grad * grad_B, grad * grad_KB, None, None, None, None, None


@compiled
def _sum(
    masked_weight: np.float32,
    main_B: np.ndarray,
    masked_KB: np.ndarray,
    labels_B: np.ndarray,
    weights_B: np.ndarray,
    undo_B: np.ndarray,
    shift_B: np.ndarray,
    grad_B: np.ndarray,
    grad_KB: np.ndarray,
) -> float:
    one, total, num = np.float32(1.0), 0.0, 0
    for b in range(len(labels_B)):
        num += (weights_B[b] > 0) | (undo_B[b] > 0)
    per = one / np.float32(max(num, 1))
    for k in range(1 + len(masked_KB)):
        scale = per if k == 0 else per * masked_weight
        logits_B, of_B = (main_B, grad_B) if k == 0 else (masked_KB[k - 1], grad_KB[k - 1])
        for b in range(len(labels_B)):
            logit = logits_B[b] + shift_B[b]
            # exp of what is not above zero: it does not overflow.
            small = np.exp(-np.abs(logit))
            p = one / (one + small) if logit >= 0 else small / (one + small)
            # -y ln p - (1 - y) ln(1 - p)
            loss = max(logit, np.float32(0.0)) - logit * labels_B[b] + np.log1p(small)
            total += scale * (weights_B[b] * loss - undo_B[b] * p * logit)
            of_B[b] = scale * (weights_B[b] * (p - labels_B[b]) - undo_B[b] * p)
    return total
