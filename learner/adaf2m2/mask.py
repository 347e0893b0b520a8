"""Feature mask: k noisy copies of each sample, in which fields are replaced by default vectors.

AdaF2M2, section 3.3, eq. 1: per instance and copy a probability p ~ U[beta, gamma]; each field is masked with
probability p. The mask works on whole fields (a multi-valued one is one field), and all fields of a copy may be masked.

Public re-implementations draw p per field instead. Then each field of each copy is masked with probability
(beta + gamma) / 2, independently: nothing is left of the draw, and copies with few or many masked fields are rarer.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from learner.adaf2m2.kernels.copies import with_copies


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
        keep_KBF1 = self.draw(len(emb_BFD), generator).unsqueeze(-1).to(emb_BFD.device)
        return self._masked(emb_BFD, keep_KBF1), keep_KBF1

    def _masked(self, emb_BFD: Tensor, keep_KBF1: Tensor) -> Tensor:
        return torch.where(keep_KBF1, emb_BFD, self.default_FD)

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Which fields are kept, bool, shape (k, B, F), on the generator's device."""
        k, num_fields, device = self.num_masks, len(self.default_FD), generator.device
        of = num_fields if self.scope == "field" else 1
        p_KB1 = torch.rand(k, num_samples, of, generator=generator, device=device) * (self.high - self.low) + self.low
        return torch.rand(k, num_samples, num_fields, generator=generator, device=device) >= p_KB1

    def beside(
        self, main_BFD: Tensor, weight_BF: Tensor | None, emb_BFD: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Weighted samples, and behind them their masked copies, as one batch.

        Args:
            main_BFD: what is weighed.
            weight_BF: weights of its fields; None: one each.
            emb_BFD: what copies are made of.
            generator: of the masks.

        Returns:
            All of them, shape (B(1 + k), F, D), and what was kept, bool, shape (k, B, F).
        """
        keep_KBF = self.draw(len(emb_BFD), generator).to(emb_BFD.device)
        if emb_BFD.device.type != "cpu":
            masked_KBFD = self._masked(emb_BFD, keep_KBF.unsqueeze(-1))
            return torch.cat([weighed(main_BFD, weight_BF), masked_KBFD.flatten(0, 1)]), keep_KBF
        if weight_BF is None:
            weight_BF = emb_BFD.new_ones(emb_BFD.shape[:2])
        return with_copies(main_BFD, weight_BF, emb_BFD, self.default_FD, keep_KBF), keep_KBF


def weighed(emb_BFD: Tensor, weight_BF: Tensor | None) -> Tensor:
    """Embeddings times the weights of their fields, if there are any."""
    return emb_BFD if weight_BF is None else emb_BFD * weight_BF.unsqueeze(-1)
