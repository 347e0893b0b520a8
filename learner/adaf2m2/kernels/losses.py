"""Logits -> summed loss and its gradient in one pass; see `learner.adaf2m2.loss`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.kernels.arrays import arrays_of
from learner.tables.compiled import compiled


def summed(logits_KB: Tensor, labels_B: Tensor, weights_B: Tensor, undo_B: Tensor, shift_B: Tensor) -> Tensor:
    """Sum over K copies and B samples, a scalar, of the loss whose derivative is w (p - y) - u p.

    Args:
        logits_KB: on a CPU, float32, as all of them.
        labels_B: y.
        weights_B: w.
        undo_B: u.
        shift_B: added to logits.
    """
    found: Tensor = _Summed.apply(logits_KB, labels_B, weights_B, undo_B, shift_B)  # type: ignore[no-untyped-call]
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_KB: Tensor, labels_B: Tensor, weights_B: Tensor, undo_B: Tensor, shift_B: Tensor
    ) -> Tensor:
        grad_KB = logits_KB.new_empty(logits_KB.shape)
        total = _sum(*arrays_of(logits_KB, labels_B, weights_B, undo_B, shift_B, grad_KB))
        ctx.save_for_backward(grad_KB)
        return logits_KB.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (grad_KB,) = ctx.saved_tensors
        return grad * grad_KB, None, None, None, None


@compiled
def _sum(
    logits_KB: np.ndarray,
    labels_B: np.ndarray,
    weights_B: np.ndarray,
    undo_B: np.ndarray,
    shift_B: np.ndarray,
    grad_KB: np.ndarray,
) -> float:
    one, total = np.float32(1.0), 0.0
    for k in range(len(logits_KB)):
        for b in range(len(labels_B)):
            logit = logits_KB[k, b] + shift_B[b]
            # exp of what is not above zero: it does not overflow.
            small = np.exp(-np.abs(logit))
            p = one / (one + small) if logit >= 0 else small / (one + small)
            # -y ln p - (1 - y) ln(1 - p)
            loss = max(logit, np.float32(0.0)) - logit * labels_B[b] + np.log1p(small)
            total += weights_B[b] * loss - undo_B[b] * p * logit
            grad_KB[k, b] = weights_B[b] * (p - labels_B[b]) - undo_B[b] * p
    return total
