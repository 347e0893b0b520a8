"""Losses of two-tower models.

Legend: B samples, P positives, C candidates, E length of vectors, I items.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor


class Candidates(NamedTuple):
    """Items that the positives of a batch are told from: those of the positives, then any others."""

    vectors_CE: Tensor
    items_C: Tensor
    """Numbers of the items."""
    log_q_C: Tensor
    """Log of how often each is expected in a batch, but for a constant; zeros for no correction."""


def in_batch_softmax(users_PE: Tensor, users_P: Tensor, candidates: Candidates, temperature: float) -> Tensor:
    """Softmax cross-entropy of each positive against the items of its batch, mean over P.

    With s the inner product over the temperature, the logit of candidate j is s_ij - log q_j: items are in a batch as
    often as they are liked, not uniformly (Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019, section
    4). What the same user likes elsewhere in the batch is no negative, and neither is the same item.

    Args:
        users_PE: vectors of the users.
        users_P: numbers of the users.
        candidates: the first P are the items that these users liked.
        temperature: tau.
    """
    num_positives = len(users_P)
    logits_PC = users_PE @ candidates.vectors_CE.T / temperature - candidates.log_q_C
    is_none_PC = candidates.items_C[:num_positives, None] == candidates.items_C[None, :]
    is_none_PC[:, :num_positives] |= users_P[:, None] == users_P[None, :]
    is_none_PC.fill_diagonal_(False)
    targets_P = torch.arange(num_positives, device=users_P.device)
    return nnf.cross_entropy(logits_PC.masked_fill(is_none_PC, float("-inf")), targets_P)


def binary(users_BE: Tensor, items_BE: Tensor, labels_B: Tensor, bias: Tensor, temperature: float) -> Tensor:
    """Binary cross-entropy with the logit s + bias, mean over B.

    Args:
        users_BE: vectors of the users.
        items_BE: of the items shown to them.
        labels_B: 0 or 1.
        bias: a scalar.
        temperature: tau.
    """
    logits_B = (users_BE * items_BE).sum(dim=-1) / temperature + bias
    return nnf.binary_cross_entropy_with_logits(logits_B, labels_B)


class ItemFrequency:
    """Each item's share of the positives so far, for the correction of in-batch negatives.

    A plain count with one added to each item, where Yi et al. (section 4.2) track the fading gap between an item's
    occurrences: here counts are at hand and exact.

    Args:
        num_items: I.

    >>> frequency = ItemFrequency(2)
    >>> frequency.update(np.array([0, 0]))
    >>> users, items = np.array([1, 2, 3, 4]), np.array([0, 1])
    >>> np.exp(frequency.log_expected(items, users, 2)).tolist()   # 3 of others * 3/4 + 2/2, 3 * 1/4 + 2/2
    [3.25, 1.75]
    """

    def __init__(self, num_items: int) -> None:
        self.counts_I = np.zeros(num_items, np.int64)

    def update(self, items_P: np.ndarray) -> None:
        """Take positives in."""
        np.add.at(self.counts_I, items_P, 1)

    def log_expected(self, items_C: np.ndarray, users_P: np.ndarray, num_uniform: int) -> np.ndarray:
        """Log of how often each item is expected among the negatives of a positive, mean over the batch.

        Args:
            items_C: numbers of items.
            users_P: of the batch's positives; what is the same user's is no negative.
            num_uniform: items that are drawn uniformly besides.
        """
        num_items = len(self.counts_I)
        _, sizes = np.unique(users_P, return_counts=True)
        num_others = len(users_P) - float(np.square(sizes).sum()) / max(len(users_P), 1)
        shares_C = (self.counts_I[items_C] + 1) / (self.counts_I.sum() + num_items)
        # With nothing to be told from, any constant does.
        log_q_C: np.ndarray = np.log(np.maximum(num_others * shares_C + num_uniform / num_items, 1e-9))
        return log_q_C
