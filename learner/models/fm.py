"""Factorisation machine (Rendle, ICDM 2010): all pairwise inner products, in linear time."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from learner.models.interaction import Interaction


def pairwise(emb_BFD: Tensor) -> Tensor:
    """Sum of the inner products of all pairs of fields (lemma 3.1), shape (B,).

    sum_{i<j} <v_i, v_j> = 1/2 sum_d ((sum_i v_id)^2 - sum_i v_id^2).

    >>> pairwise(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).item()   # 1*3 + 2*4
    11.0
    """
    square_of_sum_BD = emb_BFD.sum(dim=1).square()
    sum_of_squares_BD = emb_BFD.square().sum(dim=1)
    return 0.5 * (square_of_sum_BD - sum_of_squares_BD).sum(dim=1)


class FM(Interaction):
    """The model equation (1): a bias, first-order terms, pairs. A field of several values is one vector, their mean.

    Shape:
        emb_BFD -> logit_B

    >>> FM()(torch.ones(5, 3, 4)).tolist()   # three pairs, each 4
    [12.0, 12.0, 12.0, 12.0, 12.0]
    """

    needs_first_order: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample, without the first-order terms."""
        return self.bias + pairwise(emb_BFD)
