"""L = L_main + alpha L_aux (AdaF2M2, eq. 3 and 6); batch means for both, a sum over the k masked copies."""

import torch.nn.functional as nnf
from torch import Tensor

from learner.config import ModelSettings
from learner.model import Output


def total_loss(output: Output, labels_B: Tensor, settings: ModelSettings) -> Tensor:
    """Loss of one micro-batch, a scalar."""
    main = nnf.binary_cross_entropy_with_logits(output.main_B, labels_B)
    masked_KB = output.masked_KB
    if masked_KB is None:
        return main
    # The mean over (k, B), times k, is the sum over copies of the batch means.
    aux = nnf.binary_cross_entropy_with_logits(masked_KB, labels_B.expand_as(masked_KB))
    copies = len(masked_KB) if settings.aux_reduction == "sum" else 1
    return main + settings.aux_weight * copies * aux
