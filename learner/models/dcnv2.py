"""DCN-V2 (Wang et al., WWW 2021): cross layers beside a deep part, or below it, one linear head (section 3.4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.models.cross import CrossNetwork
from learner.models.interaction import Interaction
from learner.models.mlp import hidden_layers, perceptron


class _Crossed(Interaction):
    """What both forms have: cross layers on the fields side by side, and a deep part, which each puts elsewhere.

    Args:
        num_fields: F.
        dim: D.
        num_cross_layers: L.
        hidden: widths of the deep part.
        cross_rank: 0, or r of low-rank cross layers (eq. 2 to 4).
        cross_experts: K of these.
        dropout: after each hidden layer of the deep part.

    Shape:
        emb_BFD -> logit_B
    """

    def __init__(
        self,
        num_fields: int,
        dim: int,
        *,
        num_cross_layers: int,
        hidden: Sequence[int],
        cross_rank: int = 0,
        cross_experts: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = num_fields * dim
        self.cross = CrossNetwork(width, num_cross_layers, cross_rank, cross_experts)
        self._add_deep(width, hidden, dropout)

    def _add_deep(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        raise NotImplementedError("each form has its own")


class DCNv2(_Crossed):
    """Parallel: y = w^T [x_L ; h(x_0)]; x_L of cross layers (eq. 1), h a deep part. Arguments: as of `_Crossed`.

    >>> DCNv2(3, 4, num_cross_layers=2, hidden=(8,))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    def _add_deep(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        self.deep, last = hidden_layers(width, hidden, dropout)
        self.head = nn.Linear(width + last, 1)

    def representation(self, emb_BFD: Tensor) -> Tensor:
        """What the linear head takes, and heads of several tasks: crosses and deep part, side by side."""
        x0_BW = emb_BFD.flatten(1)
        return torch.cat([self.cross(x0_BW), self.deep(x0_BW)], dim=1)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.head(self.representation(emb_BFD))
        return logit_B1.squeeze(1)


class StackedDCNv2(_Crossed):
    """Stacked: y = w^T h(x_L): the deep part takes what the cross layers make. Arguments: as of `_Crossed`.

    >>> StackedDCNv2(3, 4, num_cross_layers=2, hidden=(8,))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    def _add_deep(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        self.deep = perceptron(width, hidden, dropout)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.deep(self.cross(emb_BFD.flatten(1)))
        return logit_B1.squeeze(1)

    def representation(self, emb_BFD: Tensor) -> Tensor:
        """What the last layer takes."""
        h_BH: Tensor = self.deep[:-1](self.cross(emb_BFD.flatten(1)))
        return h_BH
