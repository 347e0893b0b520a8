"""Occurrences of a block of samples -> tensors for the deep part."""

import msgspec
import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.histories import HistoryRows
from learner.adaf2m2.kernels.rows import distinct
from learner.fast.inputs.occurrences import Occurrences
from learner.sif.inputs import Inputs


class Batch(msgspec.Struct, frozen=True):
    """A micro-batch. B samples, F fields, N feature occurrences, U distinct rows, C counters per entity.

    Field f of sample b owns the occurrences `offsets[b * F + f]` up to the next offset; its embedding is their
    weighted sum.
    """

    rows_U: Tensor
    """Of the table; on the CPU, wherever the others are."""
    occurrence_N: Tensor
    """Index into `rows_U`."""
    offsets_BF: Tensor
    weights_N: Tensor
    norms_B2: Tensor
    """L2 norms of user and item embedding, as of the prediction."""
    counts_BC: Tensor
    """User's counters, then the item's, as of the impression."""
    histories: "HistoryBatch | None" = None
    is_there_B: Tensor | None = None
    """float32: 1 of each sample, 0 of what only fills the micro-batch; None: all are samples."""

    def __len__(self) -> int:
        return len(self.norms_B2)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        if device.type == "cpu":
            return self
        return Batch(
            self.rows_U,
            self.occurrence_N.to(device),
            self.offsets_BF.to(device),
            self.weights_N.to(device),
            self.norms_B2.to(device),
            self.counts_BC.to(device),
            None if self.histories is None else self.histories.to(device),
        )


class HistoryBatch(msgspec.Struct, frozen=True):
    """The newest L entries of H histories, the newest first."""

    items_BHL: Tensor
    """Index into `rows_U`."""
    categories_BHL: Tensor
    mask_BHL: Tensor
    """bool: whether there is an entry whose item has a row."""
    gaps_BHL: Tensor
    codes_BHL: Tensor
    inputs: Inputs | None

    def to(self, device: torch.device) -> "HistoryBatch":
        """The same on a device; what is no tensor stays."""
        return HistoryBatch(
            self.items_BHL.to(device),
            self.categories_BHL.to(device),
            self.mask_BHL.to(device),
            self.gaps_BHL.to(device),
            self.codes_BHL.to(device),
            self.inputs,
        )

    def newest(self) -> "HistoryBatch":
        """The same without what stands behind the last entry of the sample that has the most, at least one."""
        is_there_L = (self.mask_BHL | (self.codes_BHL != 0)).flatten(0, 1).any(0)
        num_entries = max(1, int(is_there_L.nonzero().max()) + 1 if is_there_L.any() else 0)
        return HistoryBatch(
            self.items_BHL[:, :, :num_entries],
            self.categories_BHL[:, :, :num_entries],
            self.mask_BHL[:, :, :num_entries],
            self.gaps_BHL[:, :, :num_entries],
            self.codes_BHL[:, :, :num_entries],
            self.inputs,
        )


def batch_of(
    occurrences: Occurrences,
    rows_N: np.ndarray,
    norms_B2: np.ndarray,
    counts_BC: np.ndarray,
    histories: HistoryRows | None = None,
) -> Batch:
    """The tensors of a micro-batch.

    Args:
        occurrences: of its samples.
        rows_N: the table's row of each.
        norms_B2: of user and item.
        counts_BC: counters of user and item.
        histories: rows of theirs, where the deep part reads them.
    """
    parts = [rows_N] if histories is None else [rows_N, histories.items_BHL.ravel(), histories.categories_BHL.ravel()]
    rows_U, occurrence = distinct(np.concatenate(parts))
    told = None if histories is None else _of_histories(histories, occurrence[len(rows_N) :])
    sizes_BF = occurrences.sizes_BF
    return Batch(
        torch.from_numpy(rows_U),
        torch.from_numpy(occurrence[: len(rows_N)]),
        torch.from_numpy(np.cumsum(sizes_BF) - sizes_BF.ravel()),
        torch.from_numpy(occurrences.weights_N),
        torch.from_numpy(norms_B2.astype(np.float32)),
        torch.from_numpy(counts_BC.astype(np.float32)),
        told,
    )


def _of_histories(histories: HistoryRows, occurrence_N: np.ndarray) -> HistoryBatch:
    items_N, categories_N = np.split(occurrence_N, 2)
    shape = histories.items_BHL.shape
    return HistoryBatch(
        torch.from_numpy(items_N.reshape(shape)),
        torch.from_numpy(categories_N.reshape(shape)),
        torch.from_numpy(histories.items_BHL > 0),
        torch.from_numpy(histories.gaps_BHL),
        torch.from_numpy(histories.codes_BHL),
        histories.inputs,
    )
