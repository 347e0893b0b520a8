"""The mean of what a user did, whatever the candidate: what attention is compared with."""

from torch import Tensor

from learner.models.sequences.reader import Query, Reader, Sequences


class Mean(Reader):
    """sum_j e_j / n, of each history.

    >>> import torch
    >>> of = Sequences(torch.ones(3, 2, 5, 4), torch.zeros(3, 2, 5, 4), torch.ones(3, 2, 5).bool(), torch.ones(3, 2, 5))
    >>> Mean(2, 4)(Query(torch.ones(3, 4), torch.zeros(3, 2, 4)), of).shape
    torch.Size([3, 2, 4])
    """

    def forward(self, query: Query, sequences: Sequences) -> Tensor:
        """The means."""
        keep_BHL1 = sequences.mask_BHL.unsqueeze(-1).float()
        sum_BHD: Tensor = (keep_BHL1 * sequences.items_BHLD).sum(2)
        return sum_BHD / keep_BHL1.sum(2).clamp(min=1)
