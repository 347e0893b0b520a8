"""Rows of the deep part: in the table, in the host's memory; or with the device, and the table is told.

With the device, values and squares of every row lie in its memory, and a step moves only numbers of rows there. The
table goes on to decide which rows there are: one that is new, or has been changed here, is sent before it is used;
whoever takes rows out of the table (checkpoints, weights, the exchange of several learners) has those that changed
there brought here first.

Legend: U distinct rows of a micro-batch, W = D + 1 values, R rows.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.device.choice import DeviceMemoryError
from learner.adaf2m2.kernels.rows import EPSILON, adagrad
from learner.adaf2m2.taken import SQUARES, VALUES, Known
from learner.tables.rows import EVERYONE, NEWER_HERE, NEWER_THERE
from learner.tables.table import Table

_LEAST_ROWS = 1 << 16
_MANY = 64
"""Steps whose rows are put together at once."""


class Rows(Protocol):
    """Where they are."""

    def take(self, rows_U: np.ndarray) -> Tensor:
        """Values of rows, shape (U, W), a copy on the device."""

    def step(self, rows_U: np.ndarray, grad_UW: Tensor, share: float, lr: float) -> None:
        """One step of Adagrad (`learner.adaf2m2.kernels.rows.adagrad`) on rows, each of which is there once."""

    def known(self, rows_N: np.ndarray) -> Known:
        """What is known of rows, of any shape."""


class HostRows:
    """In the table.

    Args:
        table: has groups for them.
        device: where values are wanted.
    """

    def __init__(self, table: Table, device: torch.device) -> None:
        self._table, self._device = table, device
        self._values_RW, self._squares_RW = table.values[VALUES], table.values[SQUARES]

    def take(self, rows_U: np.ndarray) -> Tensor:
        """As `Rows`."""
        return torch.from_numpy(self._values_RW[rows_U]).to(self._device)

    def step(self, rows_U: np.ndarray, grad_UW: Tensor, share: float, lr: float) -> None:
        """As `Rows`."""
        grads = grad_UW.cpu().numpy()
        adagrad(self._values_RW, self._squares_RW, rows_U, grads, np.float32(share), np.float32(lr))
        self._table.mark(rows_U[rows_U > 0])

    def known(self, rows_N: np.ndarray) -> Known:
        """As `Rows`."""
        norms_N = np.sqrt(np.square(self._values_RW[rows_N][..., :-1]).sum(axis=-1))
        return Known(norms_N, self._squares_RW[rows_N, 0] == 0)


class DeviceRows:
    """With the device: row n of the table is row n there. Row 0 stands for what has no row, and stays zeros.

    Args:
        table: says which rows there are; `Table.fetch` is set.
        device: whose memory they lie in. It grows with the table, by half at a time.

    Raises:
        DeviceMemoryError: there is no room; so does `take`.
    """

    def __init__(self, table: Table, device: torch.device) -> None:
        self._table, self._device = table, device
        self.num_moves = 0
        """How often the rows have come to lie elsewhere on the device: what was recorded is void then."""
        width = table.values[VALUES].shape[1]
        self.values_RW = self.squares_RW = torch.zeros(0, width, device=device)
        self._reach(_LEAST_ROWS)
        self._stepped: list[np.ndarray] = []
        table.fetch = self._fetch

    def _reach(self, end: int) -> None:
        """Have room for rows below `end`."""
        if end <= len(self.values_RW):
            return
        num_rows = min(end + end // 2, self._table.max_rows + 1)
        try:
            grown = []
            for former_RW in (self.values_RW, self.squares_RW):
                rows_RW = former_RW.new_zeros(num_rows, former_RW.shape[1])
                rows_RW[: len(former_RW)] = former_RW
                grown.append(rows_RW)
        except torch.OutOfMemoryError as exc:
            size = 8 * num_rows * self.values_RW.shape[1] / 2**30
            raise DeviceMemoryError(
                f"{num_rows:,} rows of the deep part take {size:.1f} GiB, and {self._device} has no room for them: set "
                "learner.deep_rows = 'host', a smaller model.dim, or learner.embedding_ttl_days so that fewer ids stay"
            ) from exc
        self.values_RW, self.squares_RW = grown
        self.num_moves += 1

    def send(self, rows_U: np.ndarray) -> None:
        """Have these rows be on the device what they are."""
        self._reach(self._table.end)
        newer_N = self._having(rows_U, NEWER_HERE)
        if len(newer_N):
            index_N = self._index(newer_N)
            for there_RW, name in ((self.values_RW, VALUES), (self.squares_RW, SQUARES)):
                there_RW.index_copy_(0, index_N, torch.from_numpy(self._table.values[name][newer_N]).to(self._device))

    def _index(self, rows_N: np.ndarray) -> Tensor:
        return torch.from_numpy(rows_N.astype(np.int64, copy=False)).to(self._device)

    def _having(self, rows_N: np.ndarray, bit: int) -> np.ndarray:
        """Those of the rows that have a bit, which they lose."""
        touched_R = self._table.arrays.touched_R
        found_N: np.ndarray = rows_N[(touched_R[rows_N] & bit) != 0]
        touched_R[found_N] &= ~np.uint8(bit)
        return found_N

    def take(self, rows_U: np.ndarray) -> Tensor:
        """As `Rows`."""
        self.send(rows_U)
        return self.values_RW.index_select(0, self._index(rows_U))

    def step(self, rows_U: np.ndarray, grad_UW: Tensor, share: float, lr: float) -> None:
        """As `Rows`."""
        self.step_there(self._index(rows_U), grad_UW * share, lr)
        self.stepped(rows_U)

    def step_there(self, index_U: Tensor, grad_UW: Tensor, lr: float) -> None:
        """The step itself, of fixed shapes, so that it can be recorded.

        Args:
            index_U: rows, on the device; each once but row 0.
            grad_UW: their gradients.
            lr: learning rate.
        """
        grad_UW = grad_UW * (index_U > 0).unsqueeze(1)
        self.squares_RW.index_add_(0, index_U, grad_UW * grad_UW)
        squares_UW = self.squares_RW.index_select(0, index_U)
        self.values_RW.index_add_(0, index_U, grad_UW / (squares_UW.sqrt() + float(EPSILON)), alpha=-lr)

    def stepped(self, rows_U: np.ndarray) -> None:
        """Note that a step has changed these rows there."""
        rows_U = rows_U[rows_U > 0]
        self._table.arrays.touched_R[rows_U] |= EVERYONE | NEWER_THERE
        self._stepped.append(rows_U)
        if len(self._stepped) > _MANY:
            self._stepped = [np.unique(np.concatenate(self._stepped))]

    def known(self, rows_N: np.ndarray) -> Known:
        """As `Rows`."""
        flat_N = rows_N.ravel()
        self.send(flat_N)
        index_N = self._index(flat_N)
        norms_N = self.values_RW.index_select(0, index_N)[:, :-1].square().sum(1).sqrt()
        is_new_N = self.squares_RW[:, 0].index_select(0, index_N) == 0
        norms, is_new = torch.stack([norms_N, is_new_N.float()]).cpu().numpy()
        return Known(norms.reshape(rows_N.shape), is_new.reshape(rows_N.shape) > 0)

    def _bring(self, rows_N: np.ndarray) -> None:
        newer_N = self._having(np.unique(rows_N), NEWER_THERE)
        if len(newer_N):
            index_N = self._index(newer_N)
            for there_RW, name in ((self.values_RW, VALUES), (self.squares_RW, SQUARES)):
                self._table.values[name][newer_N] = there_RW.index_select(0, index_N).cpu().numpy()

    def _fetch(self) -> None:
        """All that are newer there."""
        if self._stepped:
            stepped, self._stepped = self._stepped, []
            self._bring(np.concatenate(stepped))
