"""L = L_main + alpha L_aux (AdaF2M2, eq. 3 and 6); batch means for both, a sum over the k masked copies.

What each sample counts for is said by `Target`, the same for every part of the model. With p the prediction, of which
no gradient is taken, the derivative of a sample's loss by its logit is

    w (p - y) - u p

Beside a fast part, g learns what that leaves over: its logit is added to that of the fast part, which is held still.
"""

from collections.abc import Sequence

import msgspec
import torch
import torch.nn.functional as nnf
from torch import Tensor

from learner.adaf2m2.kernels.losses import mean_loss
from learner.adaf2m2.model import Output
from learner.config import ModelSettings


class Target(msgspec.Struct, frozen=True):
    """What B samples say, and how much each of them counts (`learner.targets`)."""

    labels_B: Tensor
    weights_B: Tensor
    """w; 0: predicted only."""
    undo_B: Tensor
    """u, 1 where an earlier negative is taken back."""
    shift_B: Tensor
    """Added to the logit for the loss alone."""


def _loss(main_B: Tensor, masked_KB: Tensor | None, target: Target, masked_weight: float = 1.0) -> Tensor:
    """Mean over the samples that count of the main loss, and of `masked_weight` times that of each copy."""
    told = target.labels_B, target.weights_B, target.undo_B, target.shift_B
    if main_B.device.type == "cpu":
        return mean_loss(main_B, masked_KB, told, masked_weight)
    size = ((target.weights_B > 0) | (target.undo_B > 0)).sum().clamp(min=1)
    total = _summed(main_B.unsqueeze(0), *told)
    return (total if masked_KB is None else total + masked_weight * _summed(masked_KB, *told)) / size


def _summed(logits_KB: Tensor, labels_B: Tensor, weights_B: Tensor, undo_B: Tensor, shift_B: Tensor) -> Tensor:
    """Of all copies and samples."""
    shifted_KB = logits_KB + shift_B
    bce_KB = nnf.binary_cross_entropy_with_logits(
        shifted_KB, labels_B.expand_as(shifted_KB), weights_B.expand_as(shifted_KB), reduction="none"
    )
    # Its derivative is -u p.
    return (bce_KB - undo_B * torch.sigmoid(shifted_KB.detach()) * shifted_KB).sum()


def total_loss(output: Output, target: Target, model: ModelSettings) -> Tensor:
    """Loss of one micro-batch, a scalar.

    Args:
        output: the forwards.
        target: of B samples; the mean is over those that count.
        model: weights of the parts.
    """
    masked_KB = output.masked_KB
    copies = 1 if masked_KB is None or model.aux_reduction == "sum" else len(masked_KB)
    return _loss(output.main_B, masked_KB, target, model.aux_weight / copies)


def tokens_loss(output: Output, target: Target) -> Tensor:
    """What a tokenizer of samples adds: beta L_VQ + gamma L_align + delta L_token (SIF); 0 without one.

    Args:
        output: the forwards.
        target: of the main task.
    """
    told = output.tokens
    if told is None:
        return torch.zeros(())
    plain = Target(target.labels_B, target.weights_B, target.undo_B, torch.zeros_like(target.shift_B))
    return told.loss + told.token_weight * _loss(told.logit_B, None, plain)


def losses_by_task(output: Output, targets: Sequence[Target], model: ModelSettings) -> tuple[list[Tensor], Tensor]:
    """Loss of one micro-batch for each task, scalars, and how many of its samples count in each, shape (T,).

    Args:
        output: forwards with heads.
        targets: per task, of B samples; one that brings no label of a task counts nothing in it.
        model: weights of the parts.
    """
    assert output.main_BT is not None
    losses, counts = [], []
    for t, target in enumerate(targets):
        masked_KB = None if output.masked_KBT is None else output.masked_KBT[..., t]
        losses.append(total_loss(Output(output.main_BT[:, t], masked_KB, None), target, model))
        counts.append(((target.weights_B > 0) | (target.undo_B > 0)).sum())
    return losses, torch.stack(counts)
