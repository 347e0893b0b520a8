"""L = L_main + alpha L_aux (AdaF2M2, eq. 3 and 6); batch means for both, a sum over the k masked copies.

Where only a share r of the negatives is learned from, the odds of a positive are 1/r times as great among the samples
as in the stream. The loss is taken on the logit less ln r, so the logit itself stays that of the stream (Monolith,
section 2).

With delayed feedback, impressions enter as negatives at once and positives once more when they are known. Two remedies
of Ktena et al., "Addressing delayed feedback for continuous training" (RecSys 2019), with p the model's own prediction
and no gradient through it:

    fake negative weighted       positives weigh 1 + p, negatives (1 - p)(1 + p)
    fake negative calibration    plain loss; it learns b = p / (1 + p), so p = b / (1 - b)
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor

from learner.adaf2m2.model import Output
from learner.config import LearnerSettings, ModelSettings

_CALIBRATED_MAX = 0.999


def delay_weights(logits_B: Tensor, labels_B: Tensor) -> Tensor:
    """Weights of the fake-negative weighted loss, shape (B,).

    >>> delay_weights(torch.zeros(2), torch.tensor([1.0, 0.0]))
    tensor([1.5000, 0.7500])
    """
    p_B = torch.sigmoid(logits_B.detach())
    return (1 + p_B) * torch.where(labels_B > 0, torch.ones_like(p_B), 1 - p_B)


def probabilities(logits_B: Tensor, learning: LearnerSettings) -> Tensor:
    """Logits -> probability of a positive; with `fnc`, calibrated from the biased rate.

    >>> probabilities(torch.tensor([-1.0986123]), LearnerSettings(delayed_feedback="fnc"))   # b = 1/4
    tensor([0.3333])
    """
    if learning.delayed_feedback != "fnc":
        return torch.sigmoid(logits_B)
    # b / (1 - b) = exp(logit); a biased rate of one half or more would make a probability of one or more.
    return torch.exp(logits_B).clamp(max=_CALIBRATED_MAX)


def total_loss(
    output: Output,
    labels_B: Tensor,
    model: ModelSettings,
    learning: LearnerSettings,
    negative_rates_B: Tensor | None = None,
) -> Tensor:
    """Loss of one micro-batch, a scalar.

    Args:
        output: the forwards.
        labels_B: 0 or 1.
        model: weights of the parts.
        learning: how delayed feedback is treated.
        negative_rates_B: share of the negatives that are learned from, where it is not 1 for all.
    """
    shift_B = 0.0 if negative_rates_B is None else -torch.log(negative_rates_B)
    weights_B = delay_weights(output.main_B, labels_B) if learning.delayed_feedback == "fnw" else None
    main = nnf.binary_cross_entropy_with_logits(output.main_B + shift_B, labels_B, weights_B)
    masked_KB = output.masked_KB
    if masked_KB is None:
        return main
    # The mean over (k, B), times k, is the sum over copies of the batch means.
    aux = nnf.binary_cross_entropy_with_logits(masked_KB + shift_B, labels_B.expand_as(masked_KB), weights_B)
    copies = len(masked_KB) if model.aux_reduction == "sum" else 1
    return main + model.aux_weight * copies * aux
