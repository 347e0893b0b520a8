"""DIN: Deep Interest Network (Zhou et al., KDD 2018, section 4.3): what a user did, weighed by the candidate.

v_U(A) = sum_j a(e_j, v_A) e_j (eq. 3). The activation unit a is a small perceptron of e_j, v_A, and what goes between
them: here e_j - v_A and e_j * v_A, as in the authors' code (the paper's figure has the outer product), with ReLU where
the paper has PReLU or Dice, whose statistics are of batches. Weights are not normalised, so that their sum says how
much interest there is. Multi-DIN has a unit for each of several queries: the item among items, its category among
categories.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.models.mlp import perceptron
from learner.models.sequences.reader import Query, Reader, Sequences


class ActivationUnit(nn.Module):
    """a(e_j, v_A) of each entry, and the sum of the entries that it weighs.

    Args:
        width: D.
        hidden: widths of its hidden layers.

    Shape:
        query_BD, keys_BLD, mask_BL -> (B, D)
    """

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.unit = perceptron(4 * width, hidden)

    def forward(self, query_BD: Tensor, keys_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """The sum."""
        query_BLD = query_BD.unsqueeze(1).expand_as(keys_BLD)
        given_BLX = torch.cat([keys_BLD, query_BLD, keys_BLD - query_BLD, keys_BLD * query_BLD], dim=-1)
        weight_BL = self.unit(given_BLX).squeeze(-1) * mask_BL
        sum_BD: Tensor = torch.einsum("bl,bld->bd", weight_BL, keys_BLD)
        return sum_BD


class DIN(Reader):
    """An activation unit for each history, whose query is the candidate's item.

    Args:
        num_histories: H.
        dim: D.
        hidden: widths of the units' hidden layers.

    >>> of = Sequences(torch.ones(3, 2, 5, 4), torch.zeros(3, 2, 5, 4), torch.ones(3, 2, 5).bool(), torch.ones(3, 2, 5))
    >>> DIN(2, 4, hidden=(8,))(Query(torch.ones(3, 4), torch.zeros(3, 2, 4)), of).shape
    torch.Size([3, 2, 4])
    """

    def __init__(self, num_histories: int, dim: int, *, hidden: Sequence[int]) -> None:
        super().__init__(num_histories, dim)
        self.items = nn.ModuleList(ActivationUnit(dim, hidden) for _ in range(num_histories))

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """Interests, by history."""
        interests = [
            unit(query.item_BD, sequences.items_BHLD[:, h], sequences.mask_BHL[:, h])
            for h, unit in enumerate(self.items)
        ]
        return torch.stack(interests, dim=1)


class MultiDIN(DIN):
    """Two units for each history: the item among items, its category among categories. Arguments: as of `DIN`.

    >>> of = Sequences(torch.ones(3, 2, 5, 4), torch.ones(3, 2, 5, 4), torch.ones(3, 2, 5).bool(), torch.ones(3, 2, 5))
    >>> MultiDIN(2, 4, hidden=(8,))(Query(torch.ones(3, 4), torch.ones(3, 2, 4)), of).shape
    torch.Size([3, 4, 4])
    """

    def __init__(self, num_histories: int, dim: int, *, hidden: Sequence[int]) -> None:
        super().__init__(num_histories, dim, hidden=hidden)
        self.categories = nn.ModuleList(ActivationUnit(dim, hidden) for _ in range(num_histories))

    @property
    def num_fields(self) -> int:
        """Two of each history."""
        return 2 * self.num_histories

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """Interests by item, then by category."""
        interests = [
            unit(query.category_BHD[:, h], sequences.categories_BHLD[:, h], sequences.mask_BHL[:, h])
            for h, unit in enumerate(self.categories)
        ]
        return torch.cat([super().forward(query, sequences), torch.stack(interests, dim=1)], dim=1)
