"""Feature mask: k noisy copies of each sample, in which fields are replaced by default vectors.

AdaF2M2, section 3.3, eq. 1: per instance and copy a probability p ~ U[beta, gamma]; each field is masked with
probability p. The mask works on whole fields (a multi-valued one is one field), and all fields of a copy may be masked.

Public re-implementations draw p per field instead. Then each field of each copy is masked with probability
(beta + gamma) / 2, independently: nothing is left of the draw, and copies with few or many masked fields are rarer.
"""

from typing import Literal

import torch
from torch import Tensor, nn


class FeatureMask(nn.Module):
    """Mask fields at random.

    Args:
        num_fields: F.
        dim: D.
        num_masks: k, copies per sample.
        low: beta.
        high: gamma.
        scope: what a p is drawn for: each copy of each sample, or each field of it.

    Shape:
        emb_BFD -> masked_KBFD of shape (k, B, F, D), keep_KBF1 with 1 where a field was kept

    >>> mask = FeatureMask(3, 4, num_masks=2, low=0.1, high=0.5)
    >>> masked, keep = mask(torch.ones(5, 3, 4), torch.Generator().manual_seed(0))
    >>> masked.shape, keep.shape
    (torch.Size([2, 5, 3, 4]), torch.Size([2, 5, 3, 1]))
    """

    def __init__(
        self,
        num_fields: int,
        dim: int,
        *,
        num_masks: int,
        low: float,
        high: float,
        scope: Literal["copy", "field"] = "copy",
    ) -> None:
        super().__init__()
        self.scope = scope
        self.num_masks = num_masks
        self.low = low
        self.high = high
        self.default_FD = nn.Parameter(torch.randn(num_fields, dim) * 0.01)

    def forward(self, emb_BFD: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the masks from `generator`, on its device, and apply them."""
        B, F, _ = emb_BFD.shape
        k, of = self.num_masks, F if self.scope == "field" else 1
        p_KB1 = torch.rand(k, B, of, generator=generator, device=generator.device) * (self.high - self.low) + self.low
        drawn_KBF = torch.rand(k, B, F, generator=generator, device=generator.device)
        keep_KBF1 = (drawn_KBF >= p_KB1).unsqueeze(-1).to(emb_BFD.device)
        return torch.where(keep_KBF1, emb_BFD, self.default_FD), keep_KBF1
