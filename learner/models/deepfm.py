"""DeepFM (Guo et al., IJCAI 2017): a factorisation machine beside a deep part, on the same embeddings."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from learner.models.fm import pairwise
from learner.models.interaction import Interaction
from learner.models.mlp import perceptron


class DeepFM(Interaction):
    """y = y_FM + y_DNN (eq. 1), y_FM of first-order terms and pairs (eq. 2), y_DNN of a = [e_1 .. e_m] (eq. 3, 4).

    The bias is that of the deep part.

    Args:
        num_fields: F.
        dim: D.
        hidden: widths of the deep part.
        dropout: after each of its hidden layers.

    Shape:
        emb_BFD -> logit_B

    >>> import torch
    >>> DeepFM(3, 4, hidden=(8,))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    needs_first_order: ClassVar[bool] = True

    def __init__(self, num_fields: int, dim: int, *, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.deep = perceptron(num_fields * dim, hidden, dropout)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample, without the first-order terms."""
        deep_B1: Tensor = self.deep(emb_BFD.flatten(1))
        return pairwise(emb_BFD) + deep_B1.squeeze(1)
