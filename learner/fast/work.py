"""What compiled code is handed besides a block: the tables' arrays, and room to work in.

Legend: R rows, X columns, D factors, F fields, S signals, H hidden units, 4 sides.
"""

from typing import NamedTuple

import numpy as np

from learner.fast.layout import NUM_SIDES, Constants
from learner.fast.state import Dense
from learner.tables.compiled import inlined


class TableArrays(NamedTuple):
    """Rows of values, and of crosses."""

    values_RX: np.ndarray
    touched_R: np.ndarray
    cross_values_RX: np.ndarray
    cross_touched_R: np.ndarray
    beliefs_R2: np.ndarray
    """float32: how far negatives are believed to turn."""


class Work(NamedTuple):
    """What is worked out of one sample."""

    sides_4D: np.ndarray
    """U_u, U_a, I_i, I_c."""
    totals_2D: np.ndarray
    """U_u + U_a, I_i + I_c."""
    present_4: np.ndarray
    """Fields of each side that have a row."""
    last_seen_F: np.ndarray
    """Sample in which a field last had a row."""
    masked_F: np.ndarray
    """uint8: 1 where a field is taken for one without a row."""
    masked_components_K: np.ndarray
    inputs_S: np.ndarray
    """The gate's."""
    hidden_H: np.ndarray
    hidden_gradient_H: np.ndarray


@inlined
def new_work(dense: Dense, constants: Constants) -> Work:
    """Room for one sample at a time."""
    num_factors = dense.centre_2D.shape[1]
    return Work(
        np.zeros((NUM_SIDES, num_factors), np.float32),
        np.zeros((2, num_factors), np.float32),
        np.zeros(NUM_SIDES, np.int64),
        np.full(len(constants.side_F), -1, np.int64),
        np.zeros(len(constants.side_F), np.uint8),
        np.zeros(len(dense.out_bias_O) - 1, np.float32),
        np.zeros_like(dense.mean_S),
        np.zeros_like(dense.in_bias_H),
        np.zeros_like(dense.in_bias_H),
    )
