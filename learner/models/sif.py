"""The end of SIF: the target's sub-tokens, mixed with the user's past samples (`sequences/sif.py`) -> logit."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from learner.models.interaction import Interaction
from learner.models.mlp import perceptron


class SIFHead(Interaction):
    """Mean over the T sub-tokens -> perceptron -> logit (SIF, "Head"); over all fields, if nothing is read.

    Args:
        dim: D.
        hidden: widths of its hidden layers; one, in the paper.
        dropout: share of hidden units dropped in training.

    >>> import torch
    >>> SIFHead(4, hidden=(8,))(torch.ones(3, 5, 4)).shape
    torch.Size([3])
    """

    takes_read_alone: ClassVar[bool] = True

    def __init__(self, dim: int, *, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.end = perceptron(dim, hidden, dropout)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B: Tensor = self.end(self.representation(emb_BFD)).squeeze(1)
        return logit_B

    def representation(self, emb_BFD: Tensor) -> Tensor:
        """The mean."""
        return emb_BFD.mean(1)
