"""Masked copies of a sample, learned by the inner model alone (AdaF2M2, section 3.3, eq. 1 to 3).

Each copy draws p from U[beta, gamma]; each field that may be masked is, with probability p. What is left predicts the
same label, without the gate, and learns from its error, alpha times. A masked field has no default vector of its own,
as in the paper: it is as one that has no row, so that what learns is what a cold user or item is predicted by.

Random numbers are SplitMix64's (Steele et al., OOPSLA 2014), whose state is one number: blocks may be cut anywhere.
"""

import numpy as np

from learner.fast.block import Block, TableArrays, Work
from learner.fast.gate import sigmoid
from learner.fast.inner import add_made, add_rest, add_up, learn_crosses, learn_values, multiply
from learner.fast.inputs.histories import add_histories, multiply_histories
from learner.fast.layout import NUM_PRODUCTS, NUM_SIDES, Constants
from learner.fast.learning.belief import MAY_TURN
from learner.fast.state import BIAS, Dense
from learner.tables.compiled import inlined

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BITS = np.uint64(11)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


@inlined
def uniform(random_1: np.ndarray) -> float:
    """The next number in [0, 1)."""
    random_1[0] += _STEP
    z = random_1[0]
    z = (z ^ (z >> _SHIFTS[0])) * _FIRST
    z = (z ^ (z >> _SHIFTS[1])) * _SECOND
    z = z ^ (z >> _SHIFTS[2])
    return float(z >> _BITS) * 2.0**-53


@inlined
def draw(dense: Dense, constants: Constants, work: Work) -> int:
    """Choose the fields of one copy; returns how many are masked."""
    p = constants.mask_low + (constants.mask_high - constants.mask_low) * uniform(dense.random_1)
    num_masked = 0
    for field in range(len(work.masked_F)):
        masked = 0
        if constants.may_mask_F[field] and uniform(dense.random_1) < p:
            masked = 1
        work.masked_F[field] = masked
        num_masked += masked
    return num_masked


@inlined
def learn_masked(
    block: Block,
    b: int,
    inner: float,
    error: float,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
    work: Work,
) -> None:
    """Learn the copies of sample b, of which the inner model's logit and error are given."""
    components_K = work.masked_components_K
    for _ in range(constants.num_masks):
        if draw(dense, constants, work) == 0 and constants.mask_weight == 0:
            continue
        components_K[:] = 0
        work.last_seen_F[:] = -1
        add_up(block.values, b, tables.values_RX, constants, work, components_K)
        if len(block.made_MX):
            add_made(block.values, b, block.made_MX, constants, work, components_K)
        multiply(dense.centre_2D, work, components_K, NUM_SIDES + constants.num_crosses)
        if constants.num_histories:
            add_histories(block, b, tables.values_RX, dense.centre_2D, constants, work)
            multiply_histories(work, components_K, NUM_SIDES + constants.num_crosses + NUM_PRODUCTS)
        logit = add_rest(block, b, tables.cross_values_RX, dense.bias_2[BIAS], constants, work, components_K)
        masked_error = error
        if block.turn_B[b] <= MAY_TURN:
            # What comes later of a negative that may turn is the same whatever was predicted.
            shift = block.shift_B[b]
            masked_error += block.weight_B[b] * (sigmoid(inner + shift) - sigmoid(logit + shift))
        step = constants.mask_weight * np.float32(masked_error)
        square = step * step
        learn_values(block, b, tables, dense, constants, work, step, square, square)
        learn_crosses(block.crosses, b, tables, constants, work, step, square)
    work.masked_F[:] = 0
    work.last_seen_F[:] = -1
