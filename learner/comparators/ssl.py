"""Self-supervised learning on item features: the "MaskNet" of AdaF2M2's table 4.

Yao et al., "Self-supervised learning for large-scale item recommendations" (CIKM 2021, arXiv 2007.12865). Two views of
each item are made by masking its features; their encodings shall be alike, and unlike those of the batch's other items.

    L_ssl = -1/B sum_i ln( exp(s(z_i, z'_i) / tau) / sum_j exp(s(z_i, z'_j) / tau) ),   s the cosine  (section 3.1)
    L     = L_main + alpha L_ssl, with items of L_ssl drawn uniformly, not by traffic               (section 3.3)

Masks (section 3.2): what one view masks the other keeps. Random feature masking chooses half of the features;
correlated feature masking a feature at random and those that it shares most information with, so that none can be told
from the others. A second stage drops values of multi-valued features before they are pooled, which is the work of the
caller's embedding layer.

Shape letters: B items, G features, D embedding length, E encoding length.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


def info_nce(one_BE: Tensor, other_BE: Tensor, temperature: float) -> Tensor:
    """L_ssl of two views of each item; the other items of the batch are the negatives.

    Args:
        one_BE: encodings of the first views, of any length.
        other_BE: of the second views.
        temperature: tau.

    >>> eye = torch.eye(2)
    >>> round(info_nce(eye, 3 * eye, 1.0).item(), 4)   # -ln(e / (e + 1))
    0.3133
    """
    similar_BB = nnf.normalize(one_BE, dim=1) @ nnf.normalize(other_BE, dim=1).T / temperature
    return nnf.cross_entropy(similar_BB, torch.arange(len(similar_BB), device=similar_BB.device))


def random_masks(num_items: int, num_features: int, generator: torch.Generator) -> Tensor:
    """What the first view masks, bool, shape (B, G): half of each item's features, rounded down, at random.

    >>> random_masks(3, 5, torch.Generator().manual_seed(0)).sum(1).tolist()
    [2, 2, 2]
    """
    drawn_BG = torch.rand(num_items, num_features, generator=generator, device=generator.device)
    return drawn_BG.argsort(dim=1).argsort(dim=1) < num_features // 2


def correlated_masks(num_items: int, information_GG: Tensor, generator: torch.Generator) -> Tensor:
    """What the first view masks, bool, shape (B, G): a feature at random and those most informative of it.

    They are half of the features in all, rounded down.

    Args:
        num_items: B.
        information_GG: as of `mutual_information`; what a feature says of itself is not looked at.
        generator: what is drawn from.

    >>> pairs = torch.tensor([[0, 2, 1, 1], [2, 0, 1, 1], [1, 1, 0, 2], [1, 1, 2, 0]])
    >>> masks = correlated_masks(4, pairs, torch.Generator().manual_seed(0))
    >>> bool((masks[:, 0] == masks[:, 1]).all())
    True
    """
    num_features = len(information_GG)
    seeds_B = torch.randint(num_features, (num_items,), generator=generator, device=generator.device)
    ranked_GG = information_GG.to(generator.device, torch.float32).clone()
    ranked_GG.fill_diagonal_(torch.inf)
    chosen_BH = ranked_GG.argsort(dim=1, descending=True, stable=True)[seeds_B, : num_features // 2]
    masked_BG = torch.zeros(num_items, num_features, dtype=torch.bool, device=generator.device)
    return masked_BG.scatter_(1, chosen_BH, torch.ones_like(chosen_BH, dtype=torch.bool))


def mutual_information(values_NG: np.ndarray) -> np.ndarray:
    """Mutual information of each pair of categorical features, nats, shape (G, G), symmetric.

    MI(V_i, V_j) = sum P(v_i, v_j) ln( P(v_i, v_j) / (P(v_i) P(v_j)) ), probabilities being shares of the N items.

    Args:
        values_NG: codes of each item's values; any integers.

    >>> mutual_information(np.array([[0, 5], [0, 5], [1, 7], [1, 7]])).round(4).tolist()
    [[0.6931, 0.6931], [0.6931, 0.6931]]
    """
    num_items, num_features = values_NG.shape
    codes = [np.unique(values_NG[:, g], return_inverse=True)[1].ravel() for g in range(num_features)]
    shares = [np.bincount(code) / num_items for code in codes]
    information_GG = np.zeros((num_features, num_features))
    for i in range(num_features):
        for j in range(i, num_features):
            joint, counts = np.unique(np.stack([codes[i], codes[j]]), axis=1, return_counts=True)
            p = counts / num_items
            apart = shares[i][joint[0]] * shares[j][joint[1]]
            information_GG[i, j] = information_GG[j, i] = (p * np.log(p / apart)).sum()
    return information_GG


class SelfSupervision(nn.Module):
    """L_ssl of a batch of items, with learned vectors in the place of what is masked.

    Args:
        num_features: G, at least 2.
        dim: D.
        temperature: tau.

    Shape:
        emb_BGD, masked_BG -> a scalar

    Raises:
        ValueError: there are fewer than two features, so that one of two views would have none.

    >>> emb_BGD, generator = torch.randn(5, 4, 3), torch.Generator().manual_seed(0)
    >>> SelfSupervision(4, 3)(emb_BGD, random_masks(5, 4, generator), lambda view_BGD: view_BGD.flatten(1)).shape
    torch.Size([])
    """

    def __init__(self, num_features: int, dim: int, *, temperature: float = 0.1) -> None:
        super().__init__()
        if num_features < 2:
            raise ValueError(f"two views of an item need two features at least, got {num_features}")
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.temperature = temperature
        self.default_GD = nn.Parameter(torch.randn(num_features, dim) * 0.01)

    def views(self, emb_BGD: Tensor, masked_BG: Tensor) -> tuple[Tensor, Tensor]:
        """The two views of each item, shape (B, G, D) each; what the first one masks, the second one keeps."""
        masked_BG1 = masked_BG.unsqueeze(-1)
        first, second = ((mask, self.default_GD, emb_BGD) for mask in (masked_BG1, ~masked_BG1))
        return torch.where(*first), torch.where(*second)

    def forward(self, emb_BGD: Tensor, masked_BG: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """L_ssl.

        Args:
            emb_BGD: embeddings of the items' features.
            masked_BG: what the first view masks, as of `random_masks` or `correlated_masks`.
            encode: the item tower, (B, G, D) -> (B, E); the same for both views.
        """
        first_BGD, second_BGD = self.views(emb_BGD, masked_BG)
        return info_nce(encode(first_BGD), encode(second_BGD), self.temperature)
