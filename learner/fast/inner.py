"""The inner model: first-order weights, crosses, and four products of centred vectors, learned sample by sample.

In the words of the model: U_u, U_a, I_i, I_c are `sides_4D`; C the components; w, G, v, H the columns of a row; e the
error, which is minus the loss' derivative by the inner logit; m_i, m_c are `centre_2D`. An occurrence without a row
adds nothing and learns nothing; a side none of whose fields has one is 0, and nothing is taken off it.

Legend: B samples, D factors, K components, R rows, X columns, F fields, 4 sides.
"""

import numpy as np

from learner.fast.block import Block, Occurring, TableArrays, Work
from learner.fast.layout import (
    ATTRIBUTES,
    CONTENT,
    FACTORS,
    ITEM,
    NUM_PRODUCTS,
    NUM_SIDES,
    SERVED_FACTORS,
    SQUARES,
    USER,
    WEIGHT,
    Constants,
)
from learner.fast.learning.kalman import learn_user
from learner.fast.state import BIAS, SQUARED_ERRORS, Dense
from learner.tables.compiled import compiled, inlined
from learner.tables.rows import EVERYONE


@inlined
def add_up(
    values: Occurring, b: int, values_RX: np.ndarray, constants: Constants, work: Work, components_K: np.ndarray
) -> None:
    """Sums of first-order weights and of vectors over the occurrences of sample b, per side.

    The attributes' vector is the mean over their fields that have a row.
    """
    side_F, has_factors_F = constants.side_F, constants.has_factors_F
    rows_N, fields_N, weights_N = values.rows_N, values.kinds_N, values.weights_N
    sides_4D, present_4, last_seen_F, masked_F = work.sides_4D, work.present_4, work.last_seen_F, work.masked_F
    num_factors, factors_at = sides_4D.shape[1], constants.factors_at
    sides_4D[:, :] = 0
    present_4[:] = 0
    for n in range(values.offsets_B1[b], values.offsets_B1[b + 1]):
        row, field = rows_N[n], fields_N[n]
        if row <= 0 or masked_F[field]:
            continue
        weight = weights_N[n]
        side = side_F[field]
        components_K[side] += weight * values_RX[row, WEIGHT]
        if not has_factors_F[field]:
            continue
        if last_seen_F[field] != b:
            last_seen_F[field] = b
            present_4[side] += 1
        for d in range(num_factors):
            sides_4D[side, d] += weight * values_RX[row, factors_at + d]
    if present_4[ATTRIBUTES] > 1:
        scale = np.float32(1) / np.float32(present_4[ATTRIBUTES])
        for d in range(num_factors):
            sides_4D[ATTRIBUTES, d] *= scale


@compiled
def add_made(
    values: Occurring, b: int, made_MX: np.ndarray, constants: Constants, work: Work, components_K: np.ndarray
) -> None:
    """Add what stands for the item of sample b, if that has no row; an item has one occurrence.

    Few samples need it, and the others' code is to stay as it is: so it is not made part of it.
    """
    for n in range(values.offsets_B1[b], values.offsets_B1[b + 1]):
        row, field = values.rows_N[n], values.kinds_N[n]
        if row >= 0 or work.masked_F[field]:
            continue
        weight, side = values.weights_N[n], constants.side_F[field]
        components_K[side] += weight * made_MX[-1 - row, WEIGHT]
        work.present_4[side] += 1
        for d in range(work.sides_4D.shape[1]):
            work.sides_4D[side, d] += weight * made_MX[-1 - row, SERVED_FACTORS + d]


@inlined
def multiply(centre_2D: np.ndarray, work: Work, components_K: np.ndarray, k: int) -> None:
    """Take the running means off the item side; then the four products, from component k on."""
    sides_4D, totals_2D = work.sides_4D, work.totals_2D
    num_factors = sides_4D.shape[1]
    for side in range(ITEM, NUM_SIDES):
        if work.present_4[side]:
            for d in range(num_factors):
                sides_4D[side, d] -= centre_2D[side - ITEM, d]
    for d in range(num_factors):
        totals_2D[0, d] = sides_4D[USER, d] + sides_4D[ATTRIBUTES, d]
        totals_2D[1, d] = sides_4D[ITEM, d] + sides_4D[CONTENT, d]
    for ours in range(ITEM):
        for theirs in range(ITEM, NUM_SIDES):
            product = np.float32(0)
            for d in range(num_factors):
                product += sides_4D[ours, d] * sides_4D[theirs, d]
            components_K[k] = product
            k += 1


@inlined
def is_masked(cross: int, constants: Constants, work: Work) -> bool:
    """Whether one of a cross' fields is."""
    fields_2 = constants.cross_fields_C2[cross]
    return bool(work.masked_F[fields_2[0]] | work.masked_F[fields_2[1]])


@inlined
def add_rest(
    block: Block,
    b: int,
    cross_values_RX: np.ndarray,
    bias: float,
    constants: Constants,
    work: Work,
    components_K: np.ndarray,
) -> float:
    """Crosses, bias and deep part of sample b; returns the inner logit, the sum of all components."""
    crosses = block.crosses
    for m in range(crosses.offsets_B1[b], crosses.offsets_B1[b + 1]):
        if is_masked(crosses.kinds_N[m], constants, work):
            continue
        weight = crosses.weights_N[m] * cross_values_RX[crosses.rows_N[m], WEIGHT]
        components_K[NUM_SIDES + crosses.kinds_N[m]] += weight
    bias_at = NUM_SIDES + constants.num_crosses + NUM_PRODUCTS + 2 * constants.num_histories
    components_K[bias_at] = bias
    if constants.has_deep:
        components_K[bias_at + 1] = block.deep_B[b]
    inner = 0.0
    for k in range(len(components_K)):
        inner += components_K[k]
    return inner


@inlined
def learn_values(
    block: Block,
    b: int,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
    work: Work,
    error: np.float32,
    square: np.float32,
    evidence: np.float32,
) -> None:
    """One step for each occurrence in sample b: w by its precision, v by Adagrad; of the user by a Kalman filter.

    `square` is e², or less where an earlier sample is taken back; no sum of squares falls below 0. `evidence`: see
    `learner/fast/learning/kalman.py`.
    """
    values, covariance_row = block.values, block.covariance_rows_B[b]
    rows_N, fields_N, weights_N = values.rows_N, values.kinds_N, values.weights_N
    side_F, rate_F, prior_F, square_prior = (
        constants.side_F,
        constants.rate_F,
        constants.prior_F,
        constants.square_prior,
    )
    values_RX, touched_R, totals_2D = tables.values_RX, tables.touched_R, work.totals_2D
    has_factors_F, keep, masked_F = constants.has_factors_F, constants.keep, work.masked_F
    num_attributes = np.float32(work.present_4[ATTRIBUTES])
    num_factors = totals_2D.shape[1]
    for n in range(values.offsets_B1[b], values.offsets_B1[b + 1]):
        row, field = rows_N[n], fields_N[n]
        if row <= 0 or masked_F[field]:
            continue
        touched_R[row] |= EVERYONE
        x = weights_N[n]
        side, rate = side_F[field], rate_F[field]
        squares = max(keep * values_RX[row, SQUARES] + square * x * x, np.float32(0))
        values_RX[row, SQUARES] = squares
        if side == USER and covariance_row:
            learn_user(row, covariance_row, tables, dense, constants, work, error, evidence)
            continue
        values_RX[row, WEIGHT] += error * x / (prior_F[field] + squares)
        if not has_factors_F[field]:
            continue
        if side == ATTRIBUTES:
            x /= num_attributes
        other = 1 if side < ITEM else 0
        for d in range(num_factors):
            towards = x * totals_2D[other, d]
            squares = values_RX[row, FACTORS + num_factors + d] + square * towards * towards
            squares = max(squares, np.float32(0))
            values_RX[row, FACTORS + num_factors + d] = squares
            values_RX[row, FACTORS + d] += rate * error * towards / np.sqrt(square_prior + squares)


@inlined
def learn_crosses(
    crosses: Occurring,
    b: int,
    tables: TableArrays,
    constants: Constants,
    work: Work,
    error: np.float32,
    square: np.float32,
) -> None:
    """One step for each cross in sample b."""
    values_RX = tables.cross_values_RX
    for m in range(crosses.offsets_B1[b], crosses.offsets_B1[b + 1]):
        row = crosses.rows_N[m]
        if row == 0 or is_masked(crosses.kinds_N[m], constants, work):
            continue
        x = crosses.weights_N[m]
        squares = max(constants.keep * values_RX[row, SQUARES] + square * x * x, np.float32(0))
        values_RX[row, SQUARES] = squares
        values_RX[row, WEIGHT] += error * x / (constants.cross_prior + squares)
        tables.cross_touched_R[row] |= EVERYONE


@inlined
def learn_dense(dense: Dense, constants: Constants, work: Work, error: float, square: float, is_new: bool) -> None:
    """Bias, and the running means: those move towards vectors that are centred already, so what is left is the way."""
    for side in range(ITEM, NUM_SIDES):
        if is_new and work.present_4[side]:
            for d in range(work.sides_4D.shape[1]):
                dense.centre_2D[side - ITEM, d] += constants.centre * work.sides_4D[side, d]
    dense.bias_2[SQUARED_ERRORS] = max(dense.bias_2[SQUARED_ERRORS] + square, 1.0)
    dense.bias_2[BIAS] += constants.bias_rate * error / np.sqrt(dense.bias_2[SQUARED_ERRORS])
