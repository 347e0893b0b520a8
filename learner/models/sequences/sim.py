"""SIM, hard search (Pi et al., CIKM 2020, sections 4.2 and 4.3): of a long history what has the candidate's category.

The general search unit is done where batches are made: only entries of the candidate's category come, the newest L. The
exact search unit is attention with several heads (eq. 4 and 5) between the candidate and those entries, each told with
an embedding of the time that has passed since (the paper's z_j = concat(e_j, e_j^t)). The paper's time intervals are
learned by their bucket; ours are halves of octaves of seconds.
"""

import torch
from torch import Tensor, nn

from learner.models.sequences.attention import attend, check_heads
from learner.models.sequences.reader import Query, Reader, Sequences

NUM_GAPS = 64
"""Buckets of time: the last begins after a hundred years."""


class SIM(Reader):
    """softmax(W_q v_A . W_k z_j) z_j W_v, of each head, put together again.

    Args:
        num_histories: H.
        dim: D.
        num_heads: a divisor of D.

    Raises:
        ValueError: it is none.

    >>> of = Sequences(torch.ones(3, 2, 5, 4), torch.zeros(3, 2, 5, 4), torch.ones(3, 2, 5).bool(), torch.ones(3, 2, 5))
    >>> SIM(2, 4, num_heads=2)(Query(torch.ones(3, 4), torch.zeros(3, 2, 4)), of).shape
    torch.Size([3, 2, 4])
    """

    by_category = True

    def __init__(self, num_histories: int, dim: int, *, num_heads: int) -> None:
        super().__init__(num_histories, dim)
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.gaps = nn.Embedding(NUM_GAPS, dim)
        nn.init.normal_(self.gaps.weight, std=0.01)
        self.to_query = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(num_histories))
        self.to_key = nn.ModuleList(nn.Linear(2 * dim, dim, bias=False) for _ in range(num_histories))
        self.to_value = nn.ModuleList(nn.Linear(2 * dim, dim, bias=False) for _ in range(num_histories))
        self.out = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(num_histories))

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """Interests, by history."""
        told_BHLX = torch.cat([sequences.items_BHLD, self.gaps(gap_buckets(sequences.gaps_BHL))], dim=-1)
        found = []
        for h in range(self.num_histories):
            told_BLX, mask_BL = told_BHLX[:, h], sequences.mask_BHL[:, h]
            q_B1D = self.to_query[h](query.item_BD).unsqueeze(1)
            mixed_B1D = attend(q_B1D, self.to_key[h](told_BLX), self.to_value[h](told_BLX), mask_BL, self.num_heads)
            found.append(self.out[h](mixed_B1D.squeeze(1)))
        return torch.stack(found, dim=1)


def gap_buckets(gaps_BHL: Tensor) -> Tensor:
    """Buckets of spans of milliseconds, half an octave of seconds wide.

    >>> gap_buckets(torch.tensor([0.0, 1000.0, 3000.0, 1e15])).tolist()
    [0, 2, 4, 63]
    """
    return (2 * torch.log2(1 + gaps_BHL.clamp(min=0) / 1000)).long().clamp(max=NUM_GAPS - 1)
