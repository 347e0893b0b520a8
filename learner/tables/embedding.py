"""Embedding rows for ids that come and go: no modulo hashing, one growable tensor for all fields.

Each row holds D embedding values, one first-order ("wide") weight, and the log-odds of the labels that came with the
id so far (its rate). The first two are learned by gradient; the rate is counted, and right after ten labels, when
Adagrad has hardly started. Only the rows of a micro-batch are gathered, differentiated and written back; the rows
touched since the last publish are remembered for the incremental snapshot.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

_FIRST_CAPACITY = 1024
_PSEUDO_COUNT = 2.5
"""Positives and negatives that every id starts with, so that its first labels do not say too much."""
NO_ROW = 0
"""Row of ids that are unknown or not admitted: zero, never trained."""


class EmbeddingTable:
    """(field, id) -> row, with admission by occurrence and eviction by event time.

    Adagrad per coordinate; its accumulator lives beside the rows.

    Args:
        min_counts: per field, the occurrence from which an id has a row.
        dim: D.
        init_std: standard deviation of a new row's embedding; the wide weight starts at 0.
        lr: Adagrad's learning rate.
        generator: source of the initial values.

    >>> table = EmbeddingTable([1, 2], 4, 0.1, 0.1, torch.Generator().manual_seed(0))
    >>> table.row(0, "u1"), table.row(0, "u2"), table.row(0, "u1")
    (1, 2, 1)
    >>> table.row(1, "i1"), table.row(1, "i1")   # admitted at the second occurrence
    (0, 3)
    """

    def __init__(
        self, min_counts: Sequence[int], dim: int, init_std: float, lr: float, generator: torch.Generator
    ) -> None:
        self.dim = dim
        self.lr = lr
        self.rows_of: list[dict[str, int]] = [{} for _ in min_counts]
        self._min_counts = tuple(min_counts)
        self._seen: list[dict[str, int]] = [{} for _ in min_counts]
        self._init_std = init_std
        self._generator = generator
        self.values_RD = torch.zeros(_FIRST_CAPACITY, dim + 2)
        self.labels_R2 = torch.full((_FIRST_CAPACITY, 2), _PSEUDO_COUNT)
        """Negatives and positives per row."""
        self.squares_RD = torch.zeros(_FIRST_CAPACITY, dim + 2)
        self.last_ts_R = np.zeros(_FIRST_CAPACITY, np.int64)
        self.touched_R = np.zeros(_FIRST_CAPACITY, np.bool_)
        self.owner: list[tuple[int, str]] = [(-1, "")]
        self._free: list[int] = []
        self.evicted: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self.owner) - 1 - len(self._free)

    def row(self, field: int, key: str) -> int:
        """The row of an id for learning: made if the id is new and admitted, else `NO_ROW`."""
        row = self.rows_of[field].get(key)
        return self._admit(field, key) if row is None else row

    def touch(self, rows_N: np.ndarray, ts_N: np.ndarray) -> np.ndarray:
        """Note that rows are seen at event times `ts_N` (ms); returns how long they had not been, ms, shape (N,).

        -1 for a row that is new, and for `NO_ROW`. Rows that occur twice have the same age both times.
        """
        last_N = self.last_ts_R[rows_N]
        np.maximum.at(self.last_ts_R, rows_N, ts_N)
        self.last_ts_R[NO_ROW] = 0
        ages_N: np.ndarray = np.where(last_N > 0, np.maximum(ts_N - last_N, 0), -1)
        return ages_N

    def _admit(self, field: int, key: str) -> int:
        threshold = self._min_counts[field]
        if threshold > 1:
            seen = self._seen[field]
            count = seen.get(key, 0) + 1
            if count < threshold:
                seen[key] = count
                return NO_ROW
            seen.pop(key, None)
        row = self.add(field, key)
        self.values_RD[row, : self.dim].normal_(0.0, self._init_std, generator=self._generator)
        return row

    def add(self, field: int, key: str) -> int:
        """A zero row for an id that has none."""
        if self._free:
            row = self._free.pop()
            self.owner[row] = (field, key)
        else:
            row = len(self.owner)
            self.owner.append((field, key))
            if row == len(self.values_RD):
                self._grow()
        self.rows_of[field][key] = row
        return row

    def _grow(self) -> None:
        """Double the capacity: amortised constant time per new id."""
        self.values_RD = torch.cat([self.values_RD, torch.zeros_like(self.values_RD)])
        self.squares_RD = torch.cat([self.squares_RD, torch.zeros_like(self.squares_RD)])
        self.labels_R2 = torch.cat([self.labels_R2, torch.full_like(self.labels_R2, _PSEUDO_COUNT)])
        self.last_ts_R = np.concatenate([self.last_ts_R, np.zeros_like(self.last_ts_R)])
        self.touched_R = np.concatenate([self.touched_R, np.zeros_like(self.touched_R)])

    def step(self, rows_U: Tensor, values_UD: Tensor, grad_UD: Tensor, labels_U2: Tensor) -> None:
        """Learn from a micro-batch: one Adagrad step (Duchi et al. 2011), and the labels counted into the rates.

        Args:
            rows_U: distinct rows, ascending.
            values_UD: their values, as gathered before the step.
            grad_UD: gradient of the loss.
            labels_U2: negatives and positives that came with each row.
        """
        if rows_U[0] == NO_ROW:
            rows_U, values_UD, grad_UD, labels_U2 = rows_U[1:], values_UD[1:], grad_UD[1:], labels_U2[1:]
        squares_UD = self.squares_RD.index_select(0, rows_U).addcmul_(grad_UD, grad_UD)
        self.squares_RD.index_copy_(0, rows_U, squares_UD)
        labels_U2 = self.labels_R2.index_select(0, rows_U).add_(labels_U2).clamp_(min=_PSEUDO_COUNT)
        self.labels_R2.index_copy_(0, rows_U, labels_U2)
        values_UD = values_UD.addcdiv(grad_UD, squares_UD.sqrt_().add_(1e-10), value=-self.lr)
        values_UD[:, self.dim + 1] = torch.log(labels_U2[:, 1] / labels_U2[:, 0])
        self.values_RD.index_copy_(0, rows_U, values_UD)
        self.touched_R[rows_U.numpy()] = True

    def take_touched(self) -> np.ndarray:
        """Rows changed since the last call."""
        rows = np.flatnonzero(self.touched_R)
        self.touched_R[rows] = False
        return rows

    def evict(self, before_ts: int) -> int:
        """Free the rows of ids last seen before `before_ts` (event time, ms); returns how many."""
        used = np.zeros(len(self.owner), np.bool_)
        used[1:] = True
        used[self._free] = False
        stale = np.flatnonzero(used & (self.last_ts_R[: len(self.owner)] < before_ts))
        for row in stale.tolist():
            field, key = self.owner[row]
            del self.rows_of[field][key]
            self.evicted.append((field, key))
        self.values_RD[stale] = 0.0
        self.squares_RD[stale] = 0.0
        self.labels_R2[stale] = _PSEUDO_COUNT
        self.touched_R[stale] = False
        self.last_ts_R[stale] = 0
        self._free.extend(stale.tolist())
        return len(stale)

    def take_evicted(self) -> list[tuple[int, str]]:
        """Ids evicted since the last call, unless they came back."""
        gone = [(field, key) for field, key in self.evicted if key not in self.rows_of[field]]
        self.evicted = []
        return gone

    def drop(self, ids: Iterable[tuple[int, str]]) -> None:
        """Free rows by id (a scorer following the learner's evictions)."""
        for field, key in ids:
            row = self.rows_of[field].pop(key, None)
            if row is not None:
                self.values_RD[row] = 0.0
                self._free.append(row)

    def norms(self, rows: np.ndarray) -> np.ndarray:
        """L2 norms of rows' embeddings, without wide weight and rate."""
        norms: np.ndarray = self.values_RD[torch.from_numpy(rows), : self.dim].norm(dim=1).numpy()
        return norms

    def norms_of(self, field: int, keys: Iterable[str]) -> dict[str, float]:
        """The same by id, of those ids of a field that have a row."""
        rows = {key: row for key in keys if (row := self.rows_of[field].get(key)) is not None}
        norms = self.norms(np.fromiter(rows.values(), np.int64, len(rows))).tolist()
        return dict(zip(rows, norms, strict=True))

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors and metadata of a checkpoint."""
        n = len(self.owner)
        tensors = {
            "table.values": self.values_RD[:n].clone(),
            "table.squares": self.squares_RD[:n].clone(),
            "table.labels": self.labels_R2[:n].clone(),
            "table.last_ts": torch.from_numpy(self.last_ts_R[:n].copy()),
            "table.touched": torch.from_numpy(self.touched_R[:n].copy()),
        }
        return tensors, {"owner": self.owner, "free": self._free, "seen": self._seen, "evicted": self.evicted}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, object]) -> None:
        """Continue from `state()`."""
        self.owner = [(int(f), str(k)) for f, k in meta["owner"]]  # type: ignore[attr-defined]
        self._free = list(meta["free"])  # type: ignore[call-overload]
        self._seen = [dict(s) for s in meta["seen"]]  # type: ignore[attr-defined]
        self.evicted = [(int(f), str(k)) for f, k in meta["evicted"]]  # type: ignore[attr-defined]
        n = len(self.owner)
        while len(self.values_RD) < n:
            self._grow()
        self.values_RD[:n] = tensors["table.values"]
        self.squares_RD[:n] = tensors["table.squares"]
        self.labels_R2[:n] = tensors["table.labels"]
        self.last_ts_R[:n] = tensors["table.last_ts"].numpy()
        self.touched_R[:n] = tensors["table.touched"].numpy()
        free = set(self._free)
        for field in self.rows_of:
            field.clear()
        for row, (owner_field, key) in enumerate(self.owner):
            if row and row not in free:
                self.rows_of[owner_field][key] = row
