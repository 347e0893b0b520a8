"""Sub-network routing with transformations, SNR-Trans (Ma et al., AAAI 2019).

    v_i = sum_j z_ij W_ij u_j                                                        (eq. 2)
    s = sigmoid((log u - log(1 - u) + log a) / b),  z = min(1, max(0, s (zeta - gamma) + gamma)),  u ~ U(0, 1)
    E[L0] = sum_ij sigmoid(log a_ij - b log(-gamma / zeta))                          (eq. 8, times lambda)

The connections z between sub-networks are hard concrete variables (Louizos et al., ICLR 2018) with b = 2/3,
gamma = -.1, zeta = 1.1 as there. One z is drawn for a batch; where nothing is learned, u stays out:
z = min(1, max(0, sigmoid(log a) (zeta - gamma) + gamma)).
"""

import math

import torch
from torch import Tensor, nn

from learner.config import HeadSettings
from learner.heads.layers import Heads, experts, logits_of, tower

_BETA, _GAMMA, _ZETA = 2 / 3, -0.1, 1.1
_TINY = 1e-6
_FIRST_LOG_ALPHA = 1.0
"""Connections begin mostly open: z = .78 where nothing is drawn."""


class Routing(nn.Module):
    """From n sub-networks to m: each of the latter gets the sum of what comes in, transformed by each connection.

    Args:
        num_from: n.
        num_to: m.
        width: X.

    Shape:
        u_BNX -> v_BMX
    """

    def __init__(self, num_from: int, num_to: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width * num_from)
        self.weight_MNXX = nn.Parameter(torch.empty(num_to, num_from, width, width).uniform_(-bound, bound))
        self.log_alpha_MN = nn.Parameter(torch.full((num_to, num_from), _FIRST_LOG_ALPHA))

    def connections(self, generator: torch.Generator | None) -> Tensor:
        """z, shape (m, n): drawn in training mode."""
        log_alpha_MN = self.log_alpha_MN
        if self.training:
            u_MN = torch.rand(log_alpha_MN.shape, generator=generator).to(log_alpha_MN.device).clamp(_TINY, 1 - _TINY)
            s_MN = torch.sigmoid((u_MN.log() - (1 - u_MN).log() + log_alpha_MN) / _BETA)
        else:
            s_MN = torch.sigmoid(log_alpha_MN)
        return (s_MN * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)

    def forward(self, u_BNX: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What each of the m gets."""
        return torch.einsum("mn,mnxy,bnx->bmy", self.connections(generator), self.weight_MNXX, u_BNX)

    def expected_open(self) -> Tensor:
        """Expected number of connections that are not 0."""
        return torch.sigmoid(self.log_alpha_MN - _BETA * math.log(-_GAMMA / _ZETA)).sum()


class SNR(Heads):
    """Layers of sub-networks, routed from layer to layer and from the last one to the tasks' towers.

    Args:
        settings: of the heads; `experts` sub-networks in each of `layers` layers.
        width: H.
        num_tasks: T.

    >>> SNR(HeadSettings(kind="snr", layers=2), 6, 3)(torch.ones(5, 6)).shape
    torch.Size([5, 3])
    """

    def __init__(self, settings: HeadSettings, width: int, num_tasks: int) -> None:
        super().__init__()
        count, units = settings.experts, settings.expert_width
        self.sparsity = settings.gate_sparsity
        self.first = experts(count, width, units)
        self.routings = nn.ModuleList(Routing(count, count, units) for _ in range(settings.layers - 1))
        self.layers = nn.ModuleList(experts(count, units, units) for _ in range(settings.layers - 1))
        self.last = Routing(count, num_tasks, units)
        self.towers = nn.ModuleList(tower(units, settings.tower) for _ in range(num_tasks))

    def forward(self, h_BH: Tensor) -> Tensor:
        """Logits of every task."""
        u_BNX = torch.stack([expert(h_BH) for expert in self.first], dim=1)
        for routing, layer in zip(self.routings, self.layers, strict=True):
            v_BNX = routing(u_BNX, self.generator)
            of_each = [expert(v_BX) for expert, v_BX in zip(layer, v_BNX.unbind(1), strict=True)]  # type: ignore[call-overload]
            u_BNX = torch.stack(of_each, dim=1)
        return logits_of(self.towers, self.last(u_BNX, self.generator).unbind(1))

    def penalty(self) -> Tensor:
        """lambda times the expected share of open connections."""
        routings = [module for module in self.modules() if isinstance(module, Routing)]
        total = sum(routing.log_alpha_MN.numel() for routing in routings)
        return self.sparsity * torch.stack([routing.expected_open() for routing in routings]).sum() / total
