"""Samples -> tensors."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.config import FieldSettings
from learner.sample import Core, Sample, SampleKind
from learner.tables.embedding import NO_ROW, EmbeddingTable

_TYPES: dict[str, set[type]] = {"id": {str}, "categorical": {str}, "multi": {list}, "numeric": {int, float}}
"""Of a value, by kind of field. A string taken for a list would be looked up by letters, and nothing would fail."""


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

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Encode samples in order."""
        cores = [s.core for s in samples]
        states = [s.state for s in samples]
        rows_N, weights_N, sizes_BF = self._occurrences(cores)
        distinct, occurrence = np.unique(rows_N, return_inverse=True)
        sizes_B = sizes_BF.sum(1)
        labels = np.array([s.label for s in samples], np.float32)
        ts = np.array([core.ts for core in cores], np.int64)
        rates = np.array([s.negative_rate for s in states], np.float32)
        corrections = np.array([s.kind is SampleKind.CORRECTION for s in samples])
        return Batch(
            torch.from_numpy(distinct),
            torch.from_numpy(occurrence),
            torch.from_numpy(np.cumsum(sizes_BF) - sizes_BF.ravel()),
            torch.from_numpy(weights_N),
            torch.from_numpy(np.array([(s.user_norm, s.item_norm) for s in states], np.float32)),
            torch.from_numpy(np.array([s.user_counts + s.item_counts for s in states], np.float32)),
            torch.from_numpy(labels),
            torch.from_numpy(self._row_labels(corrections, labels, rates, sizes_B, occurrence, len(distinct))),
            ts,
            rates,
            corrections,
            sizes_BF,
            self._table.touch(rows_N, np.repeat(ts, sizes_B)) if self._learning else None,
        )

    def _occurrences(self, cores: Sequence[Core]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and weight of every occurrence, ordered by sample, then field; occurrences per sample and field.

        Field by field, so that a whole column is looked up at once, and put in order afterwards.
        """
        num_fields = len(self._fields)
        keys: list[str] = []
        rows: list[int | None] = []
        weights: list[float] = []
        owners: list[int] = []
        """Sample of each occurrence."""
        counts: list[int] = []
        """Occurrences of each field."""
        for column, field, rows_of in zip(self._columns(cores), self._fields, self._table.rows_of, strict=True):
            present: Sequence[int] = range(len(cores))
            values = column
            if None in column:
                present = [b for b, value in enumerate(column) if value is not None]
                values = [column[b] for b in present]
            types = set(map(type, values))
            assert types <= _TYPES[field.kind], f"field {field.name!r} is declared {field.kind!r}, but has {types}"
            if field.kind == "multi":
                sizes = list(map(len, values))
                ids = list(chain.from_iterable(values))
                owners.extend(chain.from_iterable(map(repeat, present, sizes)))
                weights.extend(chain.from_iterable(repeat(1.0 / size, size) for size in sizes if size))
            elif field.kind == "numeric":
                ids = [""] * len(values)
                owners.extend(present)
                weights.extend(map(symmetric_log, values))
            else:
                ids = values
                owners.extend(present)
                weights.extend(repeat(1.0, len(values)))
            keys.extend(ids)
            rows.extend(map(rows_of.get, ids))
            counts.append(len(ids))
        fields_N = np.repeat(np.arange(num_fields), counts)
        if None in rows:
            self._fill(rows, keys, owners, fields_N)
        places_N = np.array(owners, np.int64) * num_fields + fields_N
        order_N = np.argsort(places_N, kind="stable")
        sizes_BF = np.bincount(places_N, minlength=len(cores) * num_fields).reshape(len(cores), num_fields)
        return np.array(rows, np.int64)[order_N], np.array(weights, np.float32)[order_N], sizes_BF

    def _columns(self, cores: Sequence[Core]) -> Iterator[list[Any]]:
        """Values of each field, in the order of the fields."""
        features = zip(*[core.features for core in cores], strict=True)
        for field in self._fields:
            if field.name == "user_id":
                yield [core.user_id for core in cores]
            elif field.name == "item_id":
                yield [core.item_id for core in cores]
            else:
                yield list(next(features))

    def _fill(self, rows: list[int | None], keys: Sequence[str], owners: Sequence[int], fields_N: np.ndarray) -> None:
        """Give ids without a row one, sample by sample: the order they come in decides what a new row starts with."""
        unknown = [n for n, row in enumerate(rows) if row is None]
        if not self._learning:
            for n in unknown:
                rows[n] = NO_ROW
            return
        for n in sorted(unknown, key=owners.__getitem__):
            rows[n] = self._table.row(int(fields_N[n]), keys[n])

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
