"""Histories as vectors of the user: the mean of the factors of what a user did lately.

P_h is the mean over the entries of history h whose item has a row, less the running mean of item vectors; 0 where no
entry's has. It is multiplied with the item's and the content's vector, as U_u is. What teaches the item's side is the
sum of all vectors of the user's side, so P_h does, too; the items of a history learn from it only at `history_rate`.

Legend: B samples, N entries, H histories, D factors, R rows, X columns, K components.
"""

from typing import NamedTuple

import numpy as np

from learner.fast.block import Block, TableArrays, Work
from learner.fast.layout import CONTENT, FACTORS, ITEM, Constants
from learner.samples.columns import Samples
from learner.tables.compiled import compiled, inlined
from learner.tables.ids import Ids, ids_of
from learner.tables.rows import EVERYONE


def history_ids(samples: Samples, most: int) -> Ids:
    """The newest entries of every history, sample by sample: keys of the items, kinds the histories' numbers.

    Args:
        samples: B of them.
        most: entries of one history.
    """
    sizes_BH = samples.rows_B["history_sizes"].astype(np.int64)
    keys_N = np.ascontiguousarray(samples.entries_H["item"])
    return ids_of(*_newest(sizes_BH, keys_N, most))


@compiled
def _newest(
    sizes_BH: np.ndarray, keys_N: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    offsets_B1 = np.zeros(len(sizes_BH) + 1, np.int64)
    kept_N, kinds_N = np.empty(len(keys_N), np.uint64), np.empty(len(keys_N), np.uint8)
    n = at = 0
    for b in range(len(sizes_BH)):
        for h in range(sizes_BH.shape[1]):
            end = at + sizes_BH[b, h]
            for m in range(max(at, end - most), end):
                kept_N[n], kinds_N[n] = keys_N[m], h
                n += 1
            at = end
        offsets_B1[b + 1] = n
    return offsets_B1, kept_N[:n], kinds_N[:n], np.ones(n, np.float32)


class Merged(NamedTuple):
    """Occurrences of values and entries of histories, sample by sample, the values first."""

    keys_N: np.ndarray
    fields_N: np.ndarray
    ts_N: np.ndarray
    learn_N: np.ndarray
    """An entry of a history gives no row to an item that has none."""
    is_entry_N: np.ndarray


def merged(values: Ids, entries: Ids, ts_B: np.ndarray, learn_B: np.ndarray, item_field: int) -> Merged:
    """Both in the order in which their samples are learned, so that where a block ends decides nothing.

    Args:
        values: occurrences of values.
        entries: of histories.
        ts_B: event times of the samples.
        learn_B: whether each is learned.
        item_field: number of the item's id among the fields.
    """
    sizes_B, entry_sizes_B = np.diff(values.offsets_B1), np.diff(entries.offsets_B1)
    number_B = np.arange(len(ts_B))
    sample_N = np.concatenate([np.repeat(number_B, sizes_B), np.repeat(number_B, entry_sizes_B)])
    order_N = np.argsort(sample_N, kind="stable")
    num_values, num_entries = len(values.keys_N), len(entries.keys_N)
    fields_N = np.concatenate([values.kinds_N, np.full(num_entries, item_field, np.uint8)])
    is_entry_N = np.repeat([False, True], [num_values, num_entries])
    return Merged(
        np.concatenate([values.keys_N, entries.keys_N])[order_N],
        fields_N[order_N],
        ts_B[sample_N][order_N],
        (learn_B[sample_N] & ~is_entry_N)[order_N],
        is_entry_N[order_N],
    )


@inlined
def add_histories(
    block: Block, b: int, values_RX: np.ndarray, centre_2D: np.ndarray, constants: Constants, work: Work
) -> None:
    """P_h of sample b."""
    history_HD, present_H = work.history_HD, work.history_present_H
    rows_N, kinds_N = block.histories.rows_N, block.histories.kinds_N
    num_factors, factors_at = history_HD.shape[1], constants.factors_at
    history_HD[:, :] = 0
    present_H[:] = 0
    for n in range(block.histories.offsets_B1[b], block.histories.offsets_B1[b + 1]):
        row, history = rows_N[n], kinds_N[n]
        if row == 0:
            continue
        present_H[history] += 1
        for d in range(num_factors):
            history_HD[history, d] += values_RX[row, factors_at + d]
    for history in range(len(present_H)):
        if present_H[history]:
            scale = np.float32(1) / np.float32(present_H[history])
            for d in range(num_factors):
                history_HD[history, d] = scale * history_HD[history, d] - centre_2D[0, d]


@inlined
def multiply_histories(work: Work, components_K: np.ndarray, k: int) -> None:
    """P_h times the item's and the content's vector, from component k on; behind `inner.multiply`."""
    history_HD, sides_4D, totals_2D = work.history_HD, work.sides_4D, work.totals_2D
    num_factors = history_HD.shape[1]
    for history in range(len(history_HD)):
        for side in range(ITEM, CONTENT + 1):
            product = np.float32(0)
            for d in range(num_factors):
                product += history_HD[history, d] * sides_4D[side, d]
            components_K[k] = product
            k += 1
        for d in range(num_factors):
            totals_2D[0, d] += history_HD[history, d]


@inlined
def learn_histories(
    block: Block, b: int, tables: TableArrays, constants: Constants, work: Work, error: np.float32, square: np.float32
) -> None:
    """One step for the items of each history, by Adagrad."""
    values_RX, touched_R, totals_2D = tables.values_RX, tables.touched_R, work.totals_2D
    rows_N, kinds_N = block.histories.rows_N, block.histories.kinds_N
    num_factors, rate = totals_2D.shape[1], constants.history_rate
    for n in range(block.histories.offsets_B1[b], block.histories.offsets_B1[b + 1]):
        row = rows_N[n]
        if row == 0:
            continue
        touched_R[row] |= EVERYONE
        x = np.float32(1) / np.float32(work.history_present_H[kinds_N[n]])
        for d in range(num_factors):
            towards = x * totals_2D[1, d]
            squares = max(values_RX[row, FACTORS + num_factors + d] + square * towards * towards, np.float32(0))
            values_RX[row, FACTORS + num_factors + d] = squares
            step = rate * error * towards / np.sqrt(constants.square_prior + squares)
            values_RX[row, FACTORS + d] += step


__all__ = [
    "Merged",
    "add_histories",
    "history_ids",
    "learn_histories",
    "merged",
    "multiply_histories",
]
