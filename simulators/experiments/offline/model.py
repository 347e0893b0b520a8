"""AdaF2M2's dense part with a table of embeddings that is one parameter, for training over epochs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learner.adaf2m2.batch import Batch
from learner.adaf2m2.kernels.pooling import pooled
from learner.adaf2m2.model import AdaF2M2, Output
from learner.config import FieldSettings, ModelSettings

_NUM_COUNTS = 4
"""Impressions and positives of user and item."""


class OfflineModel(nn.Module):
    """The model with its embeddings.

    Args:
        settings: of the model.
        fields: F declared fields.
        num_rows: R.
        init: standard deviation of the initial embeddings.
        seed: of the initial weights.
    """

    def __init__(
        self, settings: ModelSettings, fields: Sequence[FieldSettings], num_rows: int, *, init: float, seed: int
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        rows_RW = torch.randn(num_rows, settings.dim + 1) * init
        rows_RW[:, -1] = 0.0
        self.rows_RW = nn.Parameter(rows_RW)
        """Embedding, and first-order weight, of each value."""
        self.dense = AdaF2M2(settings, fields, _NUM_COUNTS)
        self._num_fields, self._dim = len(fields), settings.dim

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Output:
        """Logits of a batch; masked ones, too, if a generator is given."""
        output: Output = self.dense(self.rows_RW, batch, generator)
        return output

    def pooled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of a batch's fields, and their first-order weights; emb_BFD, first_BF."""
        emb_XD, first_X = pooled(self.rows_RW, batch.occurrence_N, batch.offsets_BF, batch.weights_N)
        return emb_XD.view(len(batch), self._num_fields, -1), first_X.view(len(batch), -1)

    def logits(self, emb_BFD: Tensor, first_BF: Tensor) -> Tensor:
        """What the interaction model says of embeddings, without masks and adapter."""
        logits_B: Tensor = self.dense.interaction(emb_BFD)
        return logits_B + first_BF.sum(1) if self.dense.has_first_order else logits_B

    def with_defaults(self) -> Tensor:
        """The rows, and behind them those that stand for fields that are missing, shape (R + F, D + 1).

        The mask's vectors where there are any: that is what they were learned for. Else zeros, which is what an empty
        bag of values sums up to.
        """
        defaults_FW = torch.zeros(self._num_fields, self._dim + 1, device=self.rows_RW.device)
        if self.dense.mask is not None:
            defaults_FW[:, :-1] = self.dense.mask.default_FD
        return torch.cat([self.rows_RW, defaults_FW])

    def optimiser(self, lr: float, decay: float) -> torch.optim.Optimizer:
        """Adam for everything, with decoupled decay of the embeddings."""
        groups = [
            {"params": [self.rows_RW], "weight_decay": decay},
            {"params": list(self.dense.parameters()), "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, fused=True)
