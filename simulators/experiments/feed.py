"""Samples of a rating log -> the tensors of a batch for AdaF2M2 (`learner.adaf2m2.batch`).

Each sample's field is a bag of rows of the table of embeddings. A bag that is dropped holds, instead of its values, the
field's row of default vectors (`num_rows` + number of the field), which is what a feature that is missing looks like.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learner.adaf2m2.batch import Batch
from learner.tables.compiled import compiled_maker
from simulators.experiments.ratings import Ratings

_NO_ROWS = torch.zeros(0, dtype=torch.int64)


class Feed:
    """Makes batches.

    Args:
        ratings: the samples.
        counts: impressions and positives of users and of items, as `split.counts_of`.
        device: where the tensors go.
    """

    def __init__(self, ratings: Ratings, counts: tuple[np.ndarray, np.ndarray], device: torch.device) -> None:
        self._ratings, self._device = ratings, device
        self._users_E2, self._items_E2 = counts
        self._users, self._items = (
            _Packed(side.offsets_EF, side.rows_V, len(side.fields_F)) for side in (ratings.users, ratings.items)
        )
        self._id_rows = ratings.users.id_rows, ratings.items.id_rows

    def batch(self, samples_B: np.ndarray, dim_rows: Tensor, dropped_BF: np.ndarray | None = None) -> Batch:
        """One batch; norms are as of now.

        Args:
            samples_B: numbers of the samples.
            dim_rows: the table of embeddings, of which the last column is the first-order weight.
            dropped_BF: which fields of which samples are missing; None: none.
        """
        users_B, items_B = self._ratings.users_N[samples_B], self._ratings.items_N[samples_B]
        nothing = np.zeros((0, 0), np.bool_) if dropped_BF is None else dropped_BF
        bags = _bags(users_B, items_B, self._users, self._items, nothing, self._ratings.num_rows)
        occurrence_N, weights_N, offsets_BF = (self._there(torch.from_numpy(each)) for each in bags)
        ids_B2 = np.stack([self._id_rows[0][users_B], self._id_rows[1][items_B]], axis=1)
        with torch.no_grad():
            norms_B2 = dim_rows[self._there(torch.from_numpy(ids_B2)), :-1].norm(dim=-1)
        counts_BC = torch.from_numpy(np.concatenate([self._users_E2[users_B], self._items_E2[items_B]], axis=1))
        return Batch(_NO_ROWS, occurrence_N, offsets_BF, weights_N, norms_B2, self._there(counts_BC))

    def labels(self, samples_B: np.ndarray) -> Tensor:
        """Labels of samples, float32."""
        return self._there(torch.from_numpy(self._ratings.labels_N[samples_B]))

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


class _Packed(NamedTuple):
    offsets_EF: np.ndarray
    rows_V: np.ndarray
    num_fields: int


@compiled_maker
def _bags(
    users_B: np.ndarray,
    items_B: np.ndarray,
    users: _Packed,
    items: _Packed,
    dropped_BF: np.ndarray,
    num_rows: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and weights of the occurrences, and where each field of each sample begins."""
    num_fields = users.num_fields + items.num_fields
    drops = dropped_BF.size > 0
    offsets_BF = np.empty(len(users_B) * num_fields, np.int64)
    most = 0
    for b in range(len(users_B)):
        for side, entity in ((users, users_B[b]), (items, items_B[b])):
            first = entity * side.num_fields
            most += side.offsets_EF[first + side.num_fields] - side.offsets_EF[first]
    most += len(offsets_BF) if drops else 0
    rows_N, weights_N = np.empty(most, np.int64), np.empty(most, np.float32)
    n = at = 0
    for b in range(len(users_B)):
        f = 0
        for side, entity in ((users, users_B[b]), (items, items_B[b])):
            for k in range(side.num_fields):
                offsets_BF[at] = n
                at += 1
                if drops and dropped_BF[b, f]:
                    rows_N[n], weights_N[n] = num_rows + f, 1.0
                    n += 1
                else:
                    begin = side.offsets_EF[entity * side.num_fields + k]
                    end = side.offsets_EF[entity * side.num_fields + k + 1]
                    for v in range(begin, end):
                        rows_N[n], weights_N[n] = side.rows_V[v], 1.0 / (end - begin)
                        n += 1
                f += 1
    return rows_N[:n], weights_N[:n], offsets_BF
