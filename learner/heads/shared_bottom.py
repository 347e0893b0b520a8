"""Shared bottom (Caruana, Machine Learning 1997; Ma et al., KDD 2018, section 3.1): y_k = h^k(f(x))."""

from torch import Tensor, nn

from learner.config import HeadSettings
from learner.heads.layers import Heads, experts, logits_of, tower


class SharedBottom(Heads):
    """One network for all tasks, f, and a tower for each, h^k.

    Args:
        settings: of the heads.
        width: H.
        num_tasks: T.

    >>> import torch
    >>> SharedBottom(HeadSettings(), 6, 3)(torch.ones(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(self, settings: HeadSettings, width: int, num_tasks: int) -> None:
        super().__init__()
        (self.bottom,) = experts(1, width, settings.expert_width)
        self.towers = nn.ModuleList(tower(settings.expert_width, settings.tower) for _ in range(num_tasks))

    def forward(self, h_BH: Tensor) -> Tensor:
        """Logits of every task."""
        return logits_of(self.towers, [self.bottom(h_BH)] * len(self.towers))
