"""How far a negative is believed that may still turn, and what is told when it does, or does not.

A short window lets impressions leave as negatives whose positive is only on its way. Of an impression that the model
gives the probability p, and for which nothing has come so far, the label is 1 with probability

    q = p S / (1 - p + p S),    S: share of positives that come later than the window, as counted so far

(Bayes; the delay's distribution taken for the same for all, as in Chapelle, KDD 2014). The negative is learned as q:
its error is q - p. When its positive comes, the rest is learned, 1 - q; when none comes for `join.settle_ms`, q is
taken back. Either way both together are 1 - p, or -p: what would have been learned had one waited. A positive that
comes for a negative that was believed altogether (q = 0) takes it back as of now: its error is 1 - p + p.

Legend: B samples, R rows.
"""

import numpy as np

from learner.fast.block import Block, TableArrays
from learner.fast.gate import sigmoid
from learner.fast.layout import Constants
from learner.fast.state import LATE, ON_TIME, Dense
from learner.samples.kind import SampleKind
from learner.tables.compiled import inlined

PLAIN, MAY_TURN, TURNED, SETTLED = 0, 1, 2, 3
"""What a sample is: a label as it is, a negative that may turn, one that has, one that will not."""
INNER, FINAL = 0, 1
"""Columns of `beliefs_R2`: q by the inner model's p, and by that of the final logit."""


def turns_of(kinds_B: np.ndarray, *, settles: bool) -> np.ndarray:
    """What samples of these kinds are; where nothing settles, every negative is believed at once."""
    turns_B = np.zeros(len(kinds_B), np.uint8)
    turns_B[kinds_B == SampleKind.CORRECTION] = TURNED
    if settles:
        turns_B[kinds_B == SampleKind.NEGATIVE] = MAY_TURN
        turns_B[kinds_B == SampleKind.SETTLED] = SETTLED
    return turns_B


@inlined
def told(
    logit: float, which: int, block: Block, b: int, tables: TableArrays, dense: Dense, constants: Constants
) -> tuple[float, float]:
    """What sample b tells a part of the model whose logit is this: its error, and what sums of squares gain.

    The error is minus the derivative of the loss by the logit. Of a plain sample sums gain its square; of what is taken
    back, the square of the one less that of the other.
    """
    p = sigmoid(logit + block.shift_B[b])
    turn, row = block.turn_B[b], block.belief_rows_B[b]
    if turn == PLAIN:
        weight = block.weight_B[b]
        if constants.is_weighted:
            weight *= (1.0 + p) * (1.0 if block.labels_B[b] > 0 else 1.0 - p)
        error = weight * (block.labels_B[b] - p)
        return error, error * error
    if turn == MAY_TURN:
        share = dense.delays_2[LATE] / (dense.delays_2[LATE] + dense.delays_2[ON_TIME])
        of_stream = sigmoid(logit)
        q = of_stream * share / (1.0 - of_stream + of_stream * share)
        if row:
            tables.beliefs_R2[row, which] = q
        return q - p, q * (1.0 - p) * (1.0 - p) + (1.0 - q) * p * p
    believed = float(tables.beliefs_R2[row, which]) if row else 0.0
    if turn == SETTLED:
        return -believed, 0.0
    if believed > 0:
        return 1.0 - believed, 0.0
    return 1.0, (1.0 - p) * (1.0 - p) - p * p


@inlined
def told_gate(
    gated: float,
    final: float,
    final_error: float,
    block: Block,
    b: int,
    tables: TableArrays,
    dense: Dense,
    constants: Constants,
) -> float:
    """The error that the gate learns from: that of its own logit, which is the final one without the levels."""
    turn = block.turn_B[b]
    if turn == PLAIN:
        error, _ = told(gated, FINAL, block, b, tables, dense, constants)
        return error
    if turn == MAY_TURN:
        # The same q, less the gate's own p.
        return final_error + sigmoid(final + block.shift_B[b]) - sigmoid(gated + block.shift_B[b])
    return final_error


@inlined
def note_delay(block: Block, b: int, tables: TableArrays, dense: Dense) -> None:
    """Count whether a positive came in time; forget what was believed of it."""
    turn, row = block.turn_B[b], block.belief_rows_B[b]
    if turn == PLAIN and block.labels_B[b] > 0:
        dense.delays_2[ON_TIME] += 1.0
    elif turn == TURNED:
        dense.delays_2[LATE] += 1.0
    if row and turn >= TURNED:
        tables.beliefs_R2[row, INNER] = 0
        tables.beliefs_R2[row, FINAL] = 0
