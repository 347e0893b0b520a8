"""What one call takes and gives, and the room that it works in.

Legend: B samples, N occurrences of values, M occurrences of crosses, S signals, K components, R rows, X columns,
D factors, F fields, H hidden units, 4 sides.
"""

from typing import NamedTuple

import numpy as np

from learner.fast.layout import NUM_SIDES, Constants
from learner.fast.state import Dense
from learner.tables.compiled import compiled
from learner.tables.memory import plain

_NOTHING, _OFFSETS = -1, -2
"""What is wrong, if it is no occurrence."""
_NOTHING_MADE = np.zeros((0, 0), np.float32)


class Occurring(NamedTuple):
    """Values that occur in samples; sample b has occurrences `offsets_B1[b]` up to the next offset."""

    offsets_B1: np.ndarray
    """int64."""
    rows_N: np.ndarray
    """int32; 0 for no row, which adds nothing and learns nothing; below 0, see `Block.made_MX`."""
    kinds_N: np.ndarray
    """uint8: which field, or which cross."""
    weights_N: np.ndarray
    """float32: 1; 1 / size for a value of a multi-valued field; the number itself of a numeric one; of a cross the
    product of both."""


class Block(NamedTuple):
    """Samples in the order in which they are learned."""

    values: Occurring
    crosses: Occurring
    labels_B: np.ndarray
    """float32, 0 or 1."""
    weight_B: np.ndarray
    """float32: of the sample's loss."""
    shift_B: np.ndarray
    """float32, added to the logit in the loss only: -ln r where negatives are sampled at rate r."""
    turn_B: np.ndarray
    """uint8: whether it is a negative that may turn, or has (`learner/fast/learning/belief.py`)."""
    belief_rows_B: np.ndarray
    """int32: where it is kept how far it is believed; 0: nowhere."""
    covariance_rows_B: np.ndarray
    """int32: where the user's covariance is kept; 0: nowhere, and its row is learned as all others."""
    learn_B: np.ndarray
    """uint8; 0: the sample is predicted and changes nothing."""
    signals_BS: np.ndarray
    """float32: what is known of the state of user and item, not standardised."""
    deep_B: np.ndarray
    """float32: logit of the deep part; not read where there is none."""
    levels_B2: np.ndarray
    """int64: levels of user and item by how often they were shown; not read where there are none."""
    made_MX: np.ndarray
    """float32: what stands for values that have no row, in the columns of a row that only predicts; row -1 - m of an
    occurrence is m of them. Nothing is learned into it."""
    histories: Occurring
    """Items of what users did; the kind is the history's number."""


class Predicted(NamedTuple):
    """What samples were like before they were learned from; float32.

    `logit_B` is the sum of `gates_BK * components_BK` and `added_B`.
    """

    components_BK: np.ndarray
    gates_BK: np.ndarray
    """Weights of the components, 0 to 2; 1 without a gate."""
    added_B: np.ndarray
    inner_B: np.ndarray
    """Sum of the components."""
    logit_B: np.ndarray
    rank_B: np.ndarray
    """Logit without the user's own level, which changes no order among one user's candidates."""


class TableArrays(NamedTuple):
    """Rows of values, and of crosses."""

    values_RX: np.ndarray
    touched_R: np.ndarray
    cross_values_RX: np.ndarray
    cross_touched_R: np.ndarray
    beliefs_R2: np.ndarray
    """float32: how far negatives are believed to turn."""
    covariances_RX: np.ndarray
    """float32: covariances of users' weights and factors."""


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
    history_HD: np.ndarray
    """P_h, by history."""
    history_present_H: np.ndarray
    """Entries of each history that have a row."""
    regressors_E: np.ndarray
    gain_E: np.ndarray
    """z and g of a user's step (`learner/fast/learning/kalman.py`)."""


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
        np.zeros((constants.num_histories, num_factors), np.float32),
        np.zeros(constants.num_histories, np.int64),
        np.zeros(1 + num_factors, np.float32),
        np.zeros(1 + num_factors, np.float32),
    )


class BlockError(ValueError):
    """A block contradicts itself, or the tables."""


def occurring(offsets_B1: np.ndarray, rows_N: np.ndarray, kinds_N: np.ndarray, weights_N: np.ndarray) -> Occurring:
    """Occurrences in the types that compiled code takes; copies only what is of another."""
    return Occurring(
        plain(offsets_B1, np.int64), plain(rows_N, np.int32), plain(kinds_N, np.uint8), plain(weights_N, np.float32)
    )


def no_occurrences(num_samples: int) -> Occurring:
    """Of samples without crosses, or histories."""
    return occurring(np.zeros(num_samples + 1), np.zeros(0), np.zeros(0), np.zeros(0))


def block_of(
    values: Occurring,
    crosses: Occurring | None,
    made_MX: np.ndarray | None,
    histories: Occurring | None,
    labels_B: np.ndarray,
    signals_BS: np.ndarray,
    **others: np.ndarray,
) -> Block:
    """A block in the types that compiled code takes.

    Args:
        values: occurrences of values.
        crosses: occurrences of crosses, if there are any.
        made_MX: what stands for values that have no row, if there is something.
        histories: items of histories, if there are any.
        labels_B: 0 or 1.
        signals_BS: of the state.
        others: `weight_B` and `learn_B` (1 if not given), `shift_B`, `turn_B`, `belief_rows_B`,
            `covariance_rows_B`, `deep_B`, `levels_B2` (0).

    Raises:
        TypeError: something else is given.
    """
    num_samples = len(labels_B)
    zeros_B = np.zeros(num_samples, np.float32)
    defaults: dict[str, np.ndarray] = {
        "weight_B": np.ones(num_samples, np.float32),
        "shift_B": zeros_B,
        "turn_B": np.zeros(num_samples, np.uint8),
        "belief_rows_B": np.zeros(num_samples, np.int32),
        "covariance_rows_B": np.zeros(num_samples, np.int32),
        "learn_B": np.ones(num_samples, np.uint8),
        "deep_B": zeros_B,
    }
    levels_B2 = others.pop("levels_B2", np.zeros((num_samples, 2), np.int64))
    unknown = sorted(set(others) - set(defaults))
    if unknown:
        raise TypeError(f"a block has no {', '.join(unknown)}; it may have {', '.join(defaults)}, levels_B2")
    arrays = {name: plain(others.get(name, default), default.dtype) for name, default in defaults.items()}
    return Block(
        occurring(*values),
        no_occurrences(num_samples) if crosses is None else occurring(*crosses),
        labels_B=plain(labels_B, np.float32),
        signals_BS=plain(signals_BS, np.float32),
        levels_B2=plain(levels_B2, np.int64),
        made_MX=_NOTHING_MADE if made_MX is None else plain(made_MX, np.float32),
        histories=no_occurrences(num_samples) if histories is None else occurring(*histories),
        **arrays,
    )


def check(
    block: Block,
    num_signals: int,
    of_values: tuple[int, int],
    of_crosses: tuple[int, int],
    num_beliefs: int,
    num_covariances: int,
    num_levels: int,
    num_histories: int = 0,
) -> None:
    """Compiled code checks no index, so this does.

    Args:
        block: made by `block_of`.
        num_signals: S.
        of_values: fields, and the first row that was never used.
        of_crosses: declared crosses, and likewise.
        num_beliefs: the first row of a belief that was never used.
        num_covariances: likewise.
        num_levels: L.
        num_histories: that there are vectors of.

    Raises:
        BlockError: lengths, offsets, rows or fields that cannot be.
    """
    num_samples = len(block.labels_B)
    for name in ("weight_B", "shift_B", "turn_B", "belief_rows_B", "covariance_rows_B", "learn_B", "deep_B"):
        if len(getattr(block, name)) != num_samples:
            raise BlockError(f"{name} has {len(getattr(block, name))} values, there are {num_samples} samples")
    if block.signals_BS.shape != (num_samples, num_signals):
        raise BlockError(f"signals must be {num_samples} x {num_signals}, got {block.signals_BS.shape}")
    if num_samples and not 0 <= block.belief_rows_B.min() <= block.belief_rows_B.max() < max(num_beliefs, 1):
        raise BlockError(f"rows of beliefs must be 0 to {num_beliefs - 1}")
    rows_B = block.covariance_rows_B
    if num_samples and not 0 <= rows_B.min() <= rows_B.max() < max(num_covariances, 1):
        raise BlockError(f"rows of covariances must be 0 to {num_covariances - 1}")
    levels_B2 = block.levels_B2
    if levels_B2.shape != (num_samples, 2) or (
        num_samples and not 0 <= levels_B2.min() <= levels_B2.max() < num_levels
    ):
        raise BlockError(f"levels must be {num_samples} x 2, each 0 to {num_levels - 1}")
    _check_occurrences("values", block.values, num_samples, *of_values, len(block.made_MX))
    _check_occurrences("crosses", block.crosses, num_samples, *of_crosses)
    _check_occurrences("histories", block.histories, num_samples, num_histories, of_values[1])


def _check_occurrences(
    what: str, occurrences: Occurring, num_samples: int, num_kinds: int, end: int, num_made: int = 0
) -> None:
    offsets_B1, rows_N, kinds_N, weights_N = occurrences
    lengths = {len(rows_N), len(kinds_N), len(weights_N)}
    if len(offsets_B1) != num_samples + 1 or lengths != {int(offsets_B1[-1])}:
        raise BlockError(
            f"{what}: {len(offsets_B1)} offsets for {num_samples} samples must be one more, and their last one the "
            f"number of rows, kinds and weights, which is {sorted(lengths)}"
        )
    wrong = _first_wrong(occurrences, num_kinds, end, num_made)
    if wrong == _OFFSETS:
        raise BlockError(f"{what}: offsets must begin at 0 and not fall")
    if wrong != _NOTHING:
        raise BlockError(
            f"{what}: occurrence {wrong} is row {rows_N[wrong]} of kind {kinds_N[wrong]}; rows end at {end}, kinds at "
            f"{num_kinds}"
        )


@compiled
def _first_wrong(occurrences: Occurring, num_kinds: int, end: int, num_made: int) -> int:
    """Index of the first occurrence that cannot be, `_OFFSETS`, or `_NOTHING`."""
    offsets_B1 = occurrences.offsets_B1
    if offsets_B1[0] != 0:
        return _OFFSETS
    for b in range(len(offsets_B1) - 1):
        if offsets_B1[b + 1] < offsets_B1[b]:
            return _OFFSETS
    for n in range(len(occurrences.rows_N)):
        row = occurrences.rows_N[n]
        if row < -num_made or row >= end or occurrences.kinds_N[n] >= num_kinds:
            return n
    return _NOTHING
