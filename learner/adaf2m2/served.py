"""The deep part as a scorer holds it: it predicts."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from learner.adaf2m2.batch import batch_of
from learner.adaf2m2.deep import dense_of, weights_in
from learner.adaf2m2.taken import VALUES, Occurring
from learner.recipe import Recipe
from learner.tables.memory import is_shared, reserve
from learner.tables.table import Table


class DeepLogits(NamedTuple):
    """Of B samples."""

    main_B: np.ndarray
    main_BT: np.ndarray | None
    """Of each task, where there are heads."""


class ServedDeep:
    """Predicts with what was loaded.

    Args:
        recipe: of the learner that publishes.
        table: where its embedding rows are.

    Made within `sharing()`, one process loads it, and those forked later read it.
    """

    def __init__(self, recipe: Recipe, table: Table) -> None:
        self._table = table
        self._dense = dense_of(recipe).eval()
        if is_shared():
            for weights in self._dense.state_dict(keep_vars=True).values():
                weights.data = torch.from_numpy(reserve(tuple(weights.shape), weights.numpy(force=True).dtype))

    def load(self, dense: Mapping[str, np.ndarray]) -> None:
        """Take the dense weights of a snapshot in."""
        self._dense.load_state_dict(weights_in(dense))

    def predict(self, occurring: Occurring) -> DeepLogits:
        """Logits of samples."""
        of = occurring
        batch = batch_of(of.occurrences, of.rows_N, of.norms_B2, of.counts_BC, of.histories)
        with torch.inference_mode():
            rows_UW = torch.from_numpy(self._table.values[VALUES][batch.rows_U.numpy()])
            output = self._dense(rows_UW, batch)
        return DeepLogits(output.main_B.numpy(), None if output.main_BT is None else output.main_BT.numpy())
