"""Samples -> tensors."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.config import FieldSettings
from learner.embedding import NO_ROW, EmbeddingTable
from learner.sample import Sample, SampleKind


class Batch(msgspec.Struct, frozen=True):
    """A micro-batch. B samples, F fields, N feature occurrences, U distinct rows, C counters per entity.

    Field f of sample b owns the occurrences `offsets[b * F + f]` up to the next offset; its embedding is their
    weighted sum.
    """

    rows_U: Tensor
    occurrence_N: Tensor
    """Index into `rows_U`."""
    offsets_BF: Tensor
    weights_N: Tensor
    norms_B2: Tensor
    """L2 norms of user and item embedding, as of the impression."""
    counts_BC: Tensor
    """User's counters, then the item's, as of the impression."""
    labels_B: Tensor
    row_labels_U2: Tensor
    """Negatives and positives that the batch brings to each row; a correction takes its negative back. A negative that
    stands for others, which were dropped, counts for them, too."""
    ts_B: np.ndarray
    """Event time, ms."""
    rates_B: np.ndarray
    """Share of the impressions like this one that may become negatives."""
    corrections_B: np.ndarray
    """Whether the sample turns an earlier negative."""
    sizes_BF: np.ndarray
    """Occurrences per sample and field; 0 where a sample lacks the field."""
    ages_N: np.ndarray | None = None
    """Event time since each occurrence's row was last learned from, ms; -1 for a new row. Only when learning."""

    def __len__(self) -> int:
        return len(self.labels_B)


def symmetric_log(value: float) -> float:
    """sign(x) log(1 + |x|): a numeric feature of any scale becomes one that a step size fits.

    >>> symmetric_log(0.0), round(symmetric_log(-1000.0), 2)
    (0.0, -6.91)
    """
    return math.copysign(math.log1p(abs(value)), value)


class Collator:
    """Turns samples into a `Batch`, giving new ids their rows.

    Args:
        fields: declared fields; `user_id` and `item_id` are read from the sample's own ids, the others from its
            features, in order.
        table: where ids get their rows.
        learning: whether unknown ids get rows; a scorer looks up only.
    """

    def __init__(self, fields: Sequence[FieldSettings], table: EmbeddingTable, *, learning: bool) -> None:
        self._fields = tuple(fields)
        self._table = table
        self._learning = learning

    def _find(self, field: int, key: str) -> int:
        if self._learning:
            return self._table.row(field, key)
        return self._table.rows_of[field].get(key, NO_ROW)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Encode samples in order."""
        rows: list[int] = []
        weights: list[float] = []
        offsets: list[int] = []
        find = self._find
        for sample in samples:
            core = sample.core
            values = iter(core.features)
            for f, field in enumerate(self._fields):
                offsets.append(len(rows))
                kind = field.kind
                value = (
                    core.user_id
                    if field.name == "user_id"
                    else core.item_id
                    if field.name == "item_id"
                    else next(values)
                )
                if value is None:
                    continue
                if kind == "multi":
                    assert isinstance(value, list)
                    if value:
                        rows.extend([find(f, v) for v in value])
                        weights.extend([1.0 / len(value)] * len(value))
                elif kind == "numeric":
                    assert not isinstance(value, str | list)
                    rows.append(find(f, ""))
                    weights.append(symmetric_log(value))
                else:
                    assert isinstance(value, str)
                    rows.append(find(f, value))
                    weights.append(1.0)
        rows_N = np.array(rows, np.int64)
        distinct, occurrence = np.unique(rows_N, return_inverse=True)
        sizes_BF = np.diff(np.array(offsets), append=len(rows)).reshape(len(samples), -1)
        sizes_B = sizes_BF.sum(1)
        states = [s.state for s in samples]
        labels = np.array([s.label for s in samples], np.float32)
        ts = np.array([s.core.ts for s in samples], np.int64)
        rates = np.array([s.negative_rate for s in states], np.float32)
        corrections = np.array([s.kind is SampleKind.CORRECTION for s in samples])
        return Batch(
            torch.from_numpy(distinct),
            torch.from_numpy(occurrence),
            torch.tensor(offsets),
            torch.tensor(weights),
            torch.tensor([(s.user_norm, s.item_norm) for s in states]),
            torch.tensor([s.user_counts + s.item_counts for s in states], dtype=torch.float32),
            torch.from_numpy(labels),
            torch.from_numpy(self._row_labels(corrections, labels, rates, sizes_B, occurrence, len(distinct))),
            ts,
            rates,
            corrections,
            sizes_BF,
            self._table.touch(rows_N, np.repeat(ts, sizes_B)) if self._learning else None,
        )

    def _row_labels(
        self,
        corrections: np.ndarray,
        labels: np.ndarray,
        rates: np.ndarray,
        sizes_B: np.ndarray,
        occurrence: np.ndarray,
        num_rows: int,
    ) -> np.ndarray:
        negatives = np.where(corrections, -1.0, 1.0 - labels) / rates
        counts = [np.bincount(occurrence, np.repeat(c, sizes_B), num_rows) for c in (negatives, labels)]
        return np.stack(counts, axis=1).astype(np.float32)
