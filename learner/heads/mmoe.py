"""Multi-gate mixture of experts (Ma et al., KDD 2018).

y_k = h^k(f^k(x)),  f^k(x) = sum_i g^k(x)_i f_i(x)        (eq. 6)
g^k(x) = softmax(W_gk x)                                  (eq. 7)
"""

import torch
from torch import Tensor, nn

from learner.config import HeadSettings
from learner.heads.layers import Heads, experts, logits_of, mix, tower


class MMoE(Heads):
    """Experts f_i that all tasks share; each task has a gate g^k over them, without a bias, and a tower h^k.

    Args:
        settings: of the heads.
        width: H.
        num_tasks: T.

    >>> MMoE(HeadSettings(), 6, 3)(torch.ones(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(self, settings: HeadSettings, width: int, num_tasks: int) -> None:
        super().__init__()
        self.experts = experts(settings.experts, width, settings.expert_width)
        self.gates = nn.ModuleList(nn.Linear(width, settings.experts, bias=False) for _ in range(num_tasks))
        self.towers = nn.ModuleList(tower(settings.expert_width, settings.tower) for _ in range(num_tasks))

    def forward(self, h_BH: Tensor) -> Tensor:
        """Logits of every task."""
        experts_BEX = torch.stack([expert(h_BH) for expert in self.experts], dim=1)
        return logits_of(self.towers, [mix(gate, h_BH, experts_BEX) for gate in self.gates])  # type: ignore[arg-type]
