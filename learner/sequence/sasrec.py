"""SASRec: what comes next in a sequence of items, by self-attention (Kang and McAuley, ICDM 2018).

Legend: B sequences, L positions, D width, J items of the domain. Item 0 is none; sequences begin at the left, so that a
position sees what is before it and nothing else, whatever fills the rest.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.sequence.config import SasRecSettings

_SPREAD = 0.02


class SasRec(nn.Module):
    """Embeddings, positions, and blocks of causal attention and position-wise networks.

    Normalised behind each residual sum, with dropout before it, as in the Transformer and in IDP's equations; the
    paper's own code normalises before.

    Args:
        num_items: J; their numbers are 1 .. J.
        settings: of the model.
    """

    def __init__(self, num_items: int, settings: SasRecSettings) -> None:
        super().__init__()
        self.settings = settings
        self.items = nn.Embedding(num_items + 1, settings.width, padding_idx=0)
        self.positions = nn.Embedding(settings.length, settings.width)
        self.before = nn.Sequential(nn.LayerNorm(settings.width), nn.Dropout(settings.dropout))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                settings.width, settings.heads, settings.inner, settings.dropout, "gelu", batch_first=True
            )
            for _ in range(settings.blocks)
        )
        mask_LL = torch.ones(settings.length, settings.length, dtype=torch.bool).triu(1)
        self.register_buffer("future_LL", mask_LL, persistent=False)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=_SPREAD)
        with torch.no_grad():
            self.items.weight[0] = 0.0

    def forward(self, items_BL: Tensor) -> Tensor:
        """What is known at each position, its item included; shape (B, L, D)."""
        length = items_BL.shape[1]
        hidden_BLD = self.before(self.items(items_BL) + self.positions.weight[:length])
        mask_LL = self.get_buffer("future_LL")[:length, :length]
        for block in self.blocks:
            hidden_BLD = block(hidden_BLD, src_mask=mask_LL)
        found: Tensor = hidden_BLD
        return found

    def last(self, items_BL: Tensor) -> Tensor:
        """Users' vectors: what is known at the last item; shape (B, D)."""
        hidden_BLD = self(items_BL)
        last_B = (items_BL > 0).sum(dim=1) - 1
        found: Tensor = hidden_BLD[torch.arange(len(items_BL)), last_B]
        return found

    def scores(self, items_BL: Tensor) -> Tensor:
        """Of all items as the next one, shape (B, J + 1); item 0 has none (-inf)."""
        scores_BJ = self.last(items_BL) @ self.items.weight.T
        scores_BJ[:, 0] = -torch.inf
        return scores_BJ

    def loss(self, items_BL: Tensor, next_BL: Tensor, drawn_BL: Tensor) -> Tensor:
        """Mean over the positions that have a next item; IDP's two readings of its loss, and all items' softmax.

        Args:
            items_BL: what was.
            next_BL: what came next at each position; 0 for none.
            drawn_BL: an item for each position that did not.
        """
        there_BL = next_BL > 0
        hidden_ND, next_N, drawn_N = self(items_BL)[there_BL], next_BL[there_BL], drawn_BL[there_BL]
        if self.settings.loss == "softmax":
            return functional.cross_entropy(hidden_ND @ self.items.weight[1:].T, next_N - 1)
        next_scores_N = (hidden_ND * self.items(next_N)).sum(dim=1)
        drawn_scores_N = (hidden_ND * self.items(drawn_N)).sum(dim=1)
        if self.settings.loss == "bpr":
            return functional.softplus(drawn_scores_N - next_scores_N).mean()
        return (functional.softplus(-next_scores_N) + functional.softplus(drawn_scores_N)).mean()
