"""DNN: the fields' embeddings side by side, then fully connected layers; the deep half of Wide & Deep and its kin."""

from collections.abc import Sequence

from torch import Tensor

from learner.models.interaction import Interaction
from learner.models.mlp import perceptron


class DNN(Interaction):
    """a^(0) = [v_1 .. v_n], a^(l+1) = ReLU(W^(l) a^(l) + b^(l)), linear at the end.

    The deep component of Wide & Deep (Cheng et al., DLRS 2016, section 3.2) by itself.

    Args:
        num_fields: F.
        dim: D.
        hidden: widths of the hidden layers.
        dropout: after each of them.

    Shape:
        emb_BFD -> logit_B

    >>> import torch
    >>> DNN(3, 4, hidden=(8,))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    def __init__(self, num_fields: int, dim: int, *, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.deep = perceptron(num_fields * dim, hidden, dropout)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.deep(emb_BFD.flatten(1))
        return logit_B1.squeeze(1)
