"""DCN-V2, parallel form (Wang et al., WWW 2021): cross layers beside a deep part, one linear head on both."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DCNv2(nn.Module):
    """Explicit feature crosses of bounded degree and a deep part.

    Cross layer: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (eq. 1).

    Shape:
        emb_BFD -> logit_B

    >>> DCNv2(3, 4, num_cross_layers=2, hidden=(8,))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    def __init__(self, num_fields: int, dim: int, *, num_cross_layers: int, hidden: Sequence[int]) -> None:
        super().__init__()
        width = num_fields * dim
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(num_cross_layers))
        layers: list[nn.Module] = []
        last = width
        for units in hidden:
            layers += [nn.Linear(last, units), nn.ReLU()]
            last = units
        self.deep = nn.Sequential(*layers)
        self.head = nn.Linear(width + last, 1)

    def representation(self, emb_BFD: Tensor) -> Tensor:
        """What the linear head takes, and heads of several tasks: crosses and deep part, side by side."""
        x0_BW = emb_BFD.flatten(1)
        x_BW = x0_BW
        for layer in self.cross:
            x_BW = torch.addcmul(x_BW, x0_BW, layer(x_BW))
        return torch.cat([x_BW, self.deep(x0_BW)], dim=1)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.head(self.representation(emb_BFD))
        return logit_B1.squeeze(1)
