"""Meta-Embedding: an initial embedding for a new id, made of the embeddings of its other features.

Pan, Li, Ao, Tang & He, "Warm up cold-start advertisements: improving CTR predictions via learning to learn ID
embeddings" (SIGIR 2019), section 3. The generator h_w is trained on ids that are known, each of them as if it were new,
while the base model is held still: it shall predict well at once, and be better after one step of gradient descent.

    phi    = h_w(features)                        the generated embedding
    l_a    = loss of phi on a first few samples    (cold start)
    phi'   = phi - a d l_a / d phi                 (one step of learning)
    l_b    = loss of phi' on other samples         (warm-up)
    l_meta = alpha l_a + (1 - alpha) l_b           (trains w, through the step: second derivatives)

Shape letters: I ids, K samples of each, G other features, D embedding length.
"""

from collections.abc import Callable

import msgspec
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


class FewSamples(msgspec.Struct, frozen=True):
    """K samples of each of I ids, as the base model sees them."""

    logits_IK: Callable[[Tensor], Tensor]
    """id_ID -> logits of shape (I, K): the base model, with these embeddings for the ids."""
    labels_IK: Tensor
    """0 or 1."""

    def losses(self, id_ID: Tensor) -> Tensor:
        """Mean log-loss of each id, shape (I,)."""
        logits_IK = self.logits_IK(id_ID)
        loss_IK = nnf.binary_cross_entropy_with_logits(logits_IK, self.labels_IK, reduction="none")
        return loss_IK.mean(1)


class MetaEmbedding(nn.Module):
    """The generator h_w and its loss.

    h_w is the simplest: one dense layer with tanh, times a factor that brings it to the size of embeddings, on the
    features' embeddings side by side (as in its authors' code, without a bias) or on their mean.

    Args:
        num_features: G.
        dim: D.
        scale: what an element is at most; the authors' code has 1/5.
        alpha: weight of the cold start; the paper's .1.
        step: a, size of the step of gradient descent; the authors' code has 1e-4.
        pool: whether to take the mean of the features.
        made: X, length of what is generated; as long as a feature's unless it is given.

    Shape:
        features_IGD -> id_IX

    >>> MetaEmbedding(3, 4)(torch.randn(5, 3, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        num_features: int,
        dim: int,
        *,
        scale: float = 0.2,
        alpha: float = 0.1,
        step: float = 1e-4,
        pool: bool = False,
        made: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha weighs the cold start against the warm-up and must be in [0, 1], got {alpha}")
        self.scale, self.alpha, self.step, self.pool = scale, alpha, step, pool
        self.dense = nn.Linear(dim if pool else num_features * dim, made or dim, bias=False)

    def forward(self, features_IGD: Tensor) -> Tensor:
        """Initial embeddings of ids. No gradient goes into the features' embeddings."""
        features_IGD = features_IGD.detach()
        taken_IX = features_IGD.mean(1) if self.pool else features_IGD.flatten(1)
        id_ID: Tensor = self.scale * torch.tanh(self.dense(taken_IX))
        return id_ID

    def meta_loss(self, features_IGD: Tensor, cold: FewSamples, warm: FewSamples) -> Tensor:
        """alpha l_a + (1 - alpha) l_b, the mean over ids, a scalar; only this module's weights are to be stepped.

        Args:
            features_IGD: of the ids.
            cold: the samples of the first loss.
            warm: others, of the same ids, of the second.
        """
        id_ID = self(features_IGD)
        cold_I = cold.losses(id_ID)
        # Each id's loss depends on its own embedding alone, so the gradient of the sum has every id's own.
        (grad_ID,) = torch.autograd.grad(cold_I.sum(), id_ID, create_graph=True)
        warm_I = warm.losses(id_ID - self.step * grad_ID)
        return (self.alpha * cold_I + (1 - self.alpha) * warm_I).mean()
