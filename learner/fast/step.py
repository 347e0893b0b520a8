"""The step: every sample of a block is predicted, and then learned from, in order, by one compiled call.

What comes out, and what is learned, does not depend on how a stream is cut into blocks, bit for bit.
"""

import numpy as np

from learner.fast.block import Block, Predicted, TableArrays, Work
from learner.fast.gate import adam, backward, forward, log_norm, sigmoid, standardise
from learner.fast.inner import add_made, add_rest, add_up, learn_crosses, learn_dense, learn_values, multiply
from learner.fast.inputs.histories import add_histories, learn_histories, multiply_histories
from learner.fast.layout import ITEM, ITEM_LEVEL, NUM_PRODUCTS, NUM_SIDES, USER, USER_LEVEL, Constants
from learner.fast.learning.belief import FINAL, INNER, MAY_TURN, PLAIN, note_delay, told, told_gate
from learner.fast.learning.masked import learn_masked
from learner.fast.state import ACCUMULATED, BIAS, Dense
from learner.tables.compiled import compiled, inlined

_LEVEL_MEMORY = 0.9999
"""What a level's evidence keeps with each of its samples."""


@compiled
def run(
    block: Block, predicted: Predicted, tables: TableArrays, dense: Dense, constants: Constants, work: Work
) -> None:
    """Predict and learn the samples of a block, in order; those with `learn_B` 0 change nothing.

    `work` is as `new_work` makes it.
    """
    for b in range(len(block.labels_B)):
        predict_one(block, b, predicted, tables, dense, constants, work)
        if block.learn_B[b]:
            learn_one(block, b, predicted, tables, dense, constants, work)


@inlined
def predict_one(
    block: Block,
    b: int,
    predicted: Predicted,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
    work: Work,
) -> None:
    """Components, inner logit, gates, gated logit and rank score of sample b."""
    components_K, gates_K = predicted.components_BK[b], predicted.gates_BK[b]
    components_K[:] = 0
    num_signals = block.signals_BS.shape[1]
    add_up(block.values, b, tables.values_RX, constants, work, components_K)
    if len(block.made_MX):
        add_made(block.values, b, block.made_MX, constants, work, components_K)
    if constants.has_norms:
        work.inputs_S[num_signals] = log_norm(work.sides_4D[USER])
        work.inputs_S[num_signals + 1] = log_norm(work.sides_4D[ITEM])
    multiply(dense.centre_2D, work, components_K, NUM_SIDES + constants.num_crosses)
    if constants.num_histories:
        add_histories(block, b, tables.values_RX, dense.centre_2D, constants, work)
        multiply_histories(work, components_K, NUM_SIDES + constants.num_crosses + NUM_PRODUCTS)
    inner = add_rest(block, b, tables.cross_values_RX, dense.bias_2[BIAS], constants, work, components_K)
    logit, added = inner, 0.0
    gates_K[:] = 1
    if constants.has_gate:
        for s in range(num_signals):
            work.inputs_S[s] = block.signals_BS[b, s]
        standardise(work.inputs_S, dense, block.learn_B[b] != 0 and block.turn_B[b] <= MAY_TURN)
        added = forward(dense, work, gates_K)
        logit = added
        for k in range(len(gates_K)):
            logit += gates_K[k] * components_K[k]
    rank = logit - gates_K[USER] * components_K[USER]
    if constants.has_levels:
        of_user, of_item = level(dense, USER_LEVEL, block.levels_B2[b]), level(dense, ITEM_LEVEL, block.levels_B2[b])
        added += of_user + of_item
        logit += of_user + of_item
        rank += of_item
    predicted.added_B[b], predicted.inner_B[b], predicted.logit_B[b] = added, inner, logit
    predicted.rank_B[b] = rank


@inlined
def learn_one(
    block: Block,
    b: int,
    predicted: Predicted,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
    work: Work,
) -> None:
    """Learn from sample b, of which `predicted` and `work` hold what was worked out."""
    turn, final = block.turn_B[b], predicted.logit_B[b]
    error, square = told(predicted.inner_B[b], INNER, block, b, tables, dense, constants)
    final_error, _ = told(final, FINAL, block, b, tables, dense, constants)
    of_user = 0.0
    if turn <= MAY_TURN:
        p = sigmoid(predicted.inner_B[b] + block.shift_B[b])
        of_user = p * (1.0 - p) * (block.weight_B[b] if turn == PLAIN else 1.0)
    e, e_squared = np.float32(error), np.float32(square)
    learn_values(block, b, tables, dense, constants, work, e, e_squared, np.float32(of_user))
    learn_crosses(block.crosses, b, tables, constants, work, e, e_squared)
    if constants.num_histories and constants.history_rate > 0:
        learn_histories(block, b, tables, constants, work, e, e_squared)
    learn_dense(dense, constants, work, error, square, turn <= MAY_TURN)
    gated = final
    if constants.has_levels:
        p = sigmoid(final + block.shift_B[b])
        evidence = p * (1.0 - p) if turn <= MAY_TURN else 0.0
        for which in range(2):
            gated -= level(dense, which, block.levels_B2[b])
        for which in range(2):
            learn_level(dense, which, block.levels_B2[b], final_error, evidence, constants)
    if constants.has_gate:
        # The gate learns as if there were no levels, and they what it leaves over.
        slope = np.float32(
            -told_gate(gated, final, final_error, block, b, tables, dense, constants) / constants.gate_batch
        )
        backward(dense, work, predicted.components_BK[b], predicted.gates_BK[b], slope)
        dense.counters_3[ACCUMULATED] += 1
        if dense.counters_3[ACCUMULATED] == constants.gate_batch:
            adam(dense, constants.gate_lr)
    if constants.num_masks:
        learn_masked(block, b, predicted.inner_B[b], error, tables, dense, constants, work)
    note_delay(block, b, tables, dense)


@inlined
def level(dense: Dense, which: int, levels_2: np.ndarray) -> float:
    """The user's or the item's level, logit."""
    return float(dense.levels_2L[which, levels_2[which]])


@inlined
def learn_level(
    dense: Dense, which: int, levels_2: np.ndarray, error: float, evidence: float, constants: Constants
) -> None:
    """One step: by its precision, which forgets."""
    at = levels_2[which]
    squares = _LEVEL_MEMORY * dense.level_squares_2L[which, at] + evidence
    dense.level_squares_2L[which, at] = squares
    dense.levels_2L[which, at] += constants.level_rate * error / (constants.level_prior + squares)
