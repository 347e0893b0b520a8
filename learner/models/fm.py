"""Factorisation machine (Rendle, ICDM 2010): all pairwise inner products, in linear time."""

import torch
from torch import Tensor, nn


class FM(nn.Module):
    """Second-order terms and a bias; first-order terms are the model's wide part.

    sum_{i<j} <v_i, v_j> = 1/2 sum_d ((sum_i v_id)^2 - sum_i v_id^2) (eq. 5).

    Shape:
        emb_BFD -> logit_B

    >>> v = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> FM()(v).item()   # 1*3 + 2*4
    11.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        square_of_sum_BD = emb_BFD.sum(dim=1).square()
        sum_of_squares_BD = emb_BFD.square().sum(dim=1)
        return self.bias + 0.5 * (square_of_sum_BD - sum_of_squares_BD).sum(dim=1)
