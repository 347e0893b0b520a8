"""The ranking network of "Deep neural networks for YouTube recommendations" (Covington et al., RecSys 2016).

What of the paper this is: section 4, figure 7. Fields of several values are averaged (the embedding layer does that
before), all embeddings are put side by side, and a tower of ReLU layers ends in a logistic regression.

What it is not: the candidate generation of section 3, a softmax over all videos whose last hidden layer is the user's
vector. Not here are its example age, either (the event's time would be a feature like any other), the powers x^2 and
sqrt(x) of normalised numbers (numbers are learned in buckets), and the weights of positives by watch time (section
4.2), which belong to the loss. On pooled embeddings what remains is a `DNN` without dropout; both names are there, as
the tables that it is compared in have both.
"""

from collections.abc import Sequence

from torch import Tensor

from learner.models.interaction import Interaction
from learner.models.mlp import perceptron


class YouTubeDNN(Interaction):
    """Concatenated embeddings -> ReLU tower -> logistic regression (figure 7).

    Args:
        num_fields: F.
        dim: D.
        hidden: widths of the tower, in the paper halved from layer to layer.

    Shape:
        emb_BFD -> logit_B

    >>> import torch
    >>> YouTubeDNN(3, 4, hidden=(8, 4))(torch.ones(5, 3, 4)).shape
    torch.Size([5])
    """

    def __init__(self, num_fields: int, dim: int, *, hidden: Sequence[int]) -> None:
        super().__init__()
        self.tower = perceptron(num_fields * dim, hidden)

    def forward(self, emb_BFD: Tensor) -> Tensor:
        """Logit per sample."""
        logit_B1: Tensor = self.tower(emb_BFD.flatten(1))
        return logit_B1.squeeze(1)
