"""DMT: Deep Multifaceted Transformers (Gu et al., CIKM 2020, section 4.2): a Transformer for each kind of behaviour.

The encoder is self-attention over a history's entries with learned positions (0: the newest); the decoder attends to
what comes out, with the candidate as its only query. Both are one block of Vaswani et al. (2017): attention and a
feed-forward layer, each added to what it took and normalised. What stands behind it in the paper, MMoE over several
tasks, is `learner/heads`; its bias tower is not here.
"""

import torch
from torch import Tensor, nn

from learner.models.sequences.attention import Attention, check_heads
from learner.models.sequences.reader import Query, Reader, Sequences


class Block(Attention):
    """x = LN(q + MHA(q, k, k)); LN(x + FFN(x)).

    Args:
        dim: D.
        num_heads: a divisor of D.

    Shape:
        q_BND, k_BLD, mask_BL -> (B, N, D)
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, q_BND: Tensor, k_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        """What the queries become."""
        x_BND = self.norm_1(q_BND + super().forward(q_BND, k_BLD, mask_BL))
        y_BND: Tensor = self.norm_2(x_BND + self.narrow(torch.relu(self.wide(x_BND))))
        return y_BND


class DMT(Reader):
    """Encoder and decoder of each history.

    Args:
        num_histories: H.
        dim: D.
        num_heads: a divisor of D.
        length: L, entries at most.

    Raises:
        ValueError: the heads are no divisor.

    >>> of = Sequences(torch.ones(3, 2, 5, 4), torch.zeros(3, 2, 5, 4), torch.ones(3, 2, 5).bool(), torch.ones(3, 2, 5))
    >>> DMT(2, 4, num_heads=2, length=5)(Query(torch.ones(3, 4), torch.zeros(3, 2, 4)), of).shape
    torch.Size([3, 2, 4])
    """

    def __init__(self, num_histories: int, dim: int, *, num_heads: int, length: int) -> None:
        super().__init__(num_histories, dim)
        check_heads(dim, num_heads)
        self.position_HLD = nn.Parameter(0.01 * torch.randn(num_histories, length, dim))
        self.encoders = nn.ModuleList(Block(dim, num_heads) for _ in range(num_histories))
        self.decoders = nn.ModuleList(Block(dim, num_heads) for _ in range(num_histories))

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """Interests, by history; zeros of one without entries."""
        found = []
        for h, (encoder, decoder) in enumerate(zip(self.encoders, self.decoders, strict=True)):
            mask_BL = sequences.mask_BHL[:, h]
            x_BLD = sequences.items_BHLD[:, h] + self.position_HLD[h, : mask_BL.shape[1]]
            interest_B1D = decoder(query.item_BD.unsqueeze(1), encoder(x_BLD, x_BLD, mask_BL), mask_BL)
            found.append(interest_B1D.squeeze(1) * mask_BL.any(1, keepdim=True))
        return torch.stack(found, dim=1)
