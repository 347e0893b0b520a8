"""The incremental learner: predict, then learn, one micro-batch at a time."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.loss import probabilities, total_loss
from learner.adaf2m2.model import AdaF2M2
from learner.batch import Batch, Collator
from learner.config import FieldSettings, LearnerSettings, ModelSettings
from learner.sample import Sample
from learner.tables.embedding import EmbeddingTable

_DAY_MS = 86_400_000


class Learned(msgspec.Struct, frozen=True):
    """What one micro-batch of B samples was like before it was learned from."""

    predictions_B: np.ndarray
    labels_B: np.ndarray
    counts_BC: np.ndarray
    """User's counters, then the item's, as of the impression."""
    norms_B2: np.ndarray
    weight_BF: np.ndarray | None
    """The adapter's weight per field, if there is an adapter."""
    unseen_B2: np.ndarray
    """Whether user and item had never been trained."""
    ts_B: np.ndarray
    """Event time, ms."""
    rates_B: np.ndarray
    """Share of the impressions like this one that may become negatives."""
    corrections_B: np.ndarray
    """Whether the sample turns an earlier negative."""
    sizes_BF: np.ndarray | None = None
    """Occurrences of each field; 0 where a sample lacks it."""
    ages_N: np.ndarray | None = None
    """Event time since each occurrence's embedding was last learned from, ms; -1 for a new one."""


class Learner:
    """AdaF2M2, its tables and its optimisers.

    Args:
        model: the model section.
        learning: the learner section.
        fields: declared fields of a sample.
        num_actions: feedback actions that are counted.

    A run with the same seed and the same samples in the same micro-batches gives the same predictions.
    """

    def __init__(
        self, model: ModelSettings, learning: LearnerSettings, fields: Sequence[FieldSettings], num_actions: int
    ) -> None:
        self.fields = tuple(fields)
        names = [field.name for field in fields]
        self._id_fields = [names.index("user_id"), names.index("item_id")]
        self.settings = learning
        torch.manual_seed(learning.seed)
        self.dense = AdaF2M2(model, fields, 2 * (1 + num_actions))
        self._model = model
        self._mask_rng = torch.Generator().manual_seed(learning.seed + 1)
        self._init_rng = torch.Generator().manual_seed(learning.seed + 2)
        self.table = EmbeddingTable(
            [field.min_count for field in fields],
            model.dim,
            learning.embedding_init,
            learning.embedding_lr,
            self._init_rng,
        )
        self._collate = Collator(fields, self.table, learning=True).collate
        self._optimiser = torch.optim.Adam(self.dense.parameters(), lr=learning.dense_lr, fused=True)
        self.num_samples = 0
        self.max_ts = 0
        self._last_ts_B = np.zeros(0, np.int64)

    def learn_many(self, samples: Sequence[Sample]) -> np.ndarray:
        """`learn`, of which only the predictions matter."""
        return self.learn(samples).predictions_B

    def learn(self, samples: Sequence[Sample]) -> Learned:
        """Predict the samples, then train on them once; returns the predictions, made before learning.

        The prediction is the main forward that the loss needs anyway: progressive validation costs nothing.
        """
        batch = self._collate(samples)
        rows_UD = self.table.values_RD.index_select(0, batch.rows_U).requires_grad_()
        self.dense.train()
        output = self.dense(rows_UD, batch, self._mask_rng)
        self._optimiser.zero_grad()
        rates_B = torch.from_numpy(batch.rates_B) if (batch.rates_B < 1.0).any() else None
        loss = total_loss(output, batch.labels_B, self._model, self.settings, rates_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        assert rows_UD.grad is not None
        unseen_B2 = self._unseen(batch)
        self.table.step(batch.rows_U, rows_UD.detach(), rows_UD.grad, batch.row_labels_U2)
        self.num_samples += len(samples)
        self._last_ts_B = batch.ts_B
        self.max_ts = max(self.max_ts, int(batch.ts_B.max()))
        return Learned(
            probabilities(output.main_B.detach(), self.settings).numpy(),
            batch.labels_B.numpy(),
            batch.counts_BC.numpy(),
            batch.norms_B2.numpy(),
            None if output.weight_BF is None else output.weight_BF.detach().numpy(),
            unseen_B2,
            batch.ts_B,
            batch.rates_B,
            batch.corrections_B,
            batch.sizes_BF,
            batch.ages_N,
        )

    def _unseen(self, batch: Batch) -> np.ndarray:
        """Whether user and item row were never trained, shape (B, 2); before the step."""
        # In NumPy: indexing small tensors is five times as dear in torch.
        untrained_U = self.table.squares_RD.numpy()[batch.rows_U.numpy(), 0] == 0
        offsets_BF = batch.offsets_BF.numpy().reshape(-1, len(self.fields))
        unseen_B2: np.ndarray = untrained_U[batch.occurrence_N.numpy()[offsets_BF[:, self._id_fields]]]
        return unseen_B2

    @property
    def learned_ts(self) -> int:
        """Event time of what was learned last, ms: the median of the last micro-batch; 0 before the first."""
        return int(np.sort(self._last_ts_B)[len(self._last_ts_B) // 2]) if len(self._last_ts_B) else 0

    @property
    def is_finite(self) -> bool:
        """Whether every dense weight is a number; a snapshot that is not finite is never published."""
        return all(bool(torch.isfinite(p).all()) for p in self.dense.parameters())

    def evict_stale(self) -> int:
        """Free embedding rows beyond their time to live; returns how many."""
        days = self.settings.embedding_ttl_days
        return self.table.evict(self.max_ts - days * _DAY_MS) if days else 0

    # Checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that training depends on: model, optimiser, tables, generators, counters."""
        tensors, table = self.table.state()
        tensors |= {f"dense.{name}": value for name, value in self.dense.state_dict().items()}
        for i, slots in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in slots.items()}
        tensors["rng.mask"] = self._mask_rng.get_state()
        tensors["rng.init"] = self._init_rng.get_state()
        return tensors, {"table": table, "num_samples": self.num_samples, "max_ts": self.max_ts}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continue from `state()`, as if nothing had happened."""
        self.table.restore(tensors, meta["table"])
        self.dense.load_state_dict(_below("dense.", tensors))
        adam = self._optimiser.state_dict()
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("adam.", tensors).items():
            i, slot = name.split(".", 1)
            slots.setdefault(int(i), {})[slot] = value
        adam["state"] = slots
        self._optimiser.load_state_dict(adam)
        self._mask_rng.set_state(tensors["rng.mask"])
        self._init_rng.set_state(tensors["rng.init"])
        self.num_samples = int(meta["num_samples"])
        self.max_ts = int(meta["max_ts"])


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
