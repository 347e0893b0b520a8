"""Embeddings of one side's values: only those of a batch are differentiated and changed.

Legend: V values, U distinct ones of a batch, D length.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from learner.retrieval.entities import Bag


class Gathered(NamedTuple):
    """Embeddings of a batch, ready to be differentiated."""

    values_U: Tensor
    rows_UD: Tensor
    """A leaf, whose gradient `step` takes."""
    emb_BFD: Tensor


class Embeddings:
    """A table with Adagrad per coordinate (Duchi et al. 2011).

    Args:
        num_values: V.
        num_fields: F.
        dim: D.
        std: of the first values, normal.
        lr: step.
        generator: of the first values, on the CPU, so that they are the same on every device.
        device: where the table is.
    """

    def __init__(
        self,
        num_values: int,
        num_fields: int,
        dim: int,
        *,
        std: float,
        lr: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.table_VD = (torch.randn(num_values, dim, generator=generator) * std).to(device)
        self.squares_VD = torch.zeros_like(self.table_VD)
        self._num_fields, self._dim, self._lr = num_fields, dim, lr

    def gather(self, bag: Bag, *, learning: bool) -> Gathered:
        """Each field's embedding, the weighted sum of its values'; zeros where it has none."""
        device = self.table_VD.device
        distinct, occurrence = np.unique(bag.values_N, return_inverse=True)
        values_U = torch.from_numpy(distinct).to(device)
        rows_UD = self.table_VD[values_U].requires_grad_(learning)
        pooled = nnf.embedding_bag(
            torch.from_numpy(occurrence).to(device),
            rows_UD,
            torch.from_numpy(bag.offsets_BF).to(device),
            mode="sum",
            per_sample_weights=torch.from_numpy(bag.weights_N).to(device),
        )
        return Gathered(values_U, rows_UD, pooled.view(-1, self._num_fields, self._dim))

    def step(self, gathered: Gathered) -> None:
        """One step by the gradient of what was gathered."""
        grad_UD = gathered.rows_UD.grad
        assert grad_UD is not None
        squares_UD = self.squares_VD[gathered.values_U] + grad_UD * grad_UD
        self.squares_VD[gathered.values_U] = squares_UD
        self.table_VD[gathered.values_U] -= self._lr * grad_UD / (squares_UD.sqrt() + 1e-10)
