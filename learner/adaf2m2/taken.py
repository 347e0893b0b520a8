"""What the deep part takes of a learner, without PyTorch: groups of a row, what a block has, what its labels say.

PyTorch takes seconds of a start and 200 MB; so it is loaded where a model has a deep part, and nowhere else.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from learner.adaf2m2.histories import HistoryRows
from learner.fast.inputs.occurrences import Occurrences
from learner.recipe import Recipe
from learner.tables.table import Group

VALUES, SQUARES = "deep", "deep_squares"
"""Groups of a row: embedding and first-order weight, and the sums of their squared gradients."""


def groups_of(recipe: Recipe) -> list[Group]:
    """What a row of the table has for the deep part."""
    if not recipe.has_deep:
        return []
    stds = (recipe.learner.embedding_init,) * len(recipe.fields)
    return [Group(VALUES, recipe.model.dim + 1, stds=stds), Group(SQUARES, recipe.model.dim + 1)]


def served_groups(recipe: Recipe) -> list[Group]:
    """What it has of that where nothing is learned."""
    return [Group(VALUES, recipe.model.dim + 1)] if recipe.has_deep else []


class Known(NamedTuple):
    """What is known of ids, by their rows; both of the rows' shape."""

    norms_N: np.ndarray
    """L2 norms of their embeddings."""
    is_new_N: np.ndarray
    """Whether nothing was ever learned of them."""


class Occurring(msgspec.Struct, frozen=True):
    """What a block of B samples has."""

    occurrences: Occurrences
    rows_N: np.ndarray
    """The table's row of each occurrence."""
    norms_B2: np.ndarray
    counts_BC: np.ndarray
    learn_B: np.ndarray
    """Whether each is learned from."""
    histories: HistoryRows | None = None


class Told(NamedTuple):
    """What the L samples to learn from say, as `learner.adaf2m2.loss.Target` has it; float32."""

    labels_L: np.ndarray
    weights_L: np.ndarray
    undo_L: np.ndarray
    shift_L: np.ndarray
