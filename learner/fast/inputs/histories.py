"""Histories as vectors of the user: the mean of the factors of what a user did lately.

P_h is the mean over the entries of history h whose item has a row, less the running mean of item vectors; 0 where no
entry's has. It is multiplied with the item's and the content's vector, as U_u is. What teaches the item's side is the
sum of all vectors of the user's side, so P_h does, too; the items of a history learn from it only at `history_rate`.

Legend: B samples, E entries that they share, N entries as each has them, H histories, D factors, R rows, X columns,
K components.
"""

from typing import NamedTuple

import numpy as np

from learner.fast.block import Block, TableArrays, Work
from learner.fast.layout import CONTENT, FACTORS, ITEM, Constants
from learner.samples.columns import Samples
from learner.tables.compiled import compiled, compiled_maker, inlined
from learner.tables.ids import Ids
from learner.tables.rows import EVERYONE


class Entries(NamedTuple):
    """Entries of histories; sample b has those from `offsets_B1[b]` up to the next offset."""

    offsets_B1: np.ndarray
    keys_E: np.ndarray
    """Of the items, of all entries that samples share."""
    places_N: np.ndarray
    """int64: which of them each is."""
    kinds_N: np.ndarray
    """uint8: number of the history."""
    weights_N: np.ndarray


def entries_of(samples: Samples, most: int) -> Entries:
    """The newest entries of every history, sample by sample.

    Args:
        samples: B of them.
        most: entries of one history.
    """
    rows_B = samples.rows_B
    starts_BH, sizes_BH = rows_B["history_starts"].astype(np.int64), rows_B["history_sizes"].astype(np.int64)
    newest_BH = np.minimum(sizes_BH, most)
    offsets_B1 = np.zeros(len(rows_B) + 1, np.int64)
    np.cumsum(newest_BH.sum(axis=1), out=offsets_B1[1:])
    places_N, kinds_N = _places(starts_BH + sizes_BH - newest_BH, newest_BH, int(offsets_B1[-1]))
    keys_E = np.ascontiguousarray(samples.entries_H["item"])
    return Entries(offsets_B1, keys_E, places_N, kinds_N, np.ones(len(places_N), np.float32))


@compiled_maker
def _places(begins_BH: np.ndarray, sizes_BH: np.ndarray, num_entries: int) -> tuple[np.ndarray, np.ndarray]:
    places_N, kinds_N = np.empty(num_entries, np.int64), np.empty(num_entries, np.uint8)
    n = 0
    for b in range(len(begins_BH)):
        for h in range(begins_BH.shape[1]):
            for e in range(begins_BH[b, h], begins_BH[b, h] + sizes_BH[b, h]):
                places_N[n], kinds_N[n] = e, h
                n += 1
    return places_N, kinds_N


def rows_as_learned(
    entries: Entries, before_E: np.ndarray, after_E: np.ndarray, values: Ids, rows_N: np.ndarray
) -> np.ndarray:
    """Row of each entry as its sample finds it, so that where a block ends decides nothing; 0 if it had none then.

    Samples are learned one by one, and an item has its row from the first of its samples on that gave it one.

    Args:
        entries: of B samples.
        before_E: rows of their items before the block.
        after_E: rows of their items behind it.
        values: occurrences of the block's values.
        rows_N: their rows.
    """
    rows_M: np.ndarray = after_E.take(entries.places_N)
    is_new_E = before_E != after_E
    if is_new_E.any():
        new_U = np.unique(after_E[is_new_E])
        first_U = np.full(len(new_U), len(values.offsets_B1), np.int64)
        _hide_later(rows_M, entries.places_N, entries.offsets_B1, is_new_E, new_U, first_U, rows_N, values.offsets_B1)
    return rows_M


@compiled
def _hide_later(
    rows_M: np.ndarray,
    places_M: np.ndarray,
    entry_offsets_B1: np.ndarray,
    is_new_E: np.ndarray,
    new_U: np.ndarray,
    first_U: np.ndarray,
    rows_N: np.ndarray,
    offsets_B1: np.ndarray,
) -> None:
    """Take the block's new rows, which ascend, from the entries of samples before the first that has the row."""
    for b in range(len(offsets_B1) - 1):
        for n in range(offsets_B1[b], offsets_B1[b + 1]):
            if new_U[0] <= rows_N[n] <= new_U[-1]:
                u = np.searchsorted(new_U, rows_N[n])
                if new_U[u] == rows_N[n]:
                    first_U[u] = min(first_U[u], b)
        for m in range(entry_offsets_B1[b], entry_offsets_B1[b + 1]):
            if is_new_E[places_M[m]] and first_U[np.searchsorted(new_U, rows_M[m])] > b:
                rows_M[m] = 0


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
    "Entries",
    "add_histories",
    "entries_of",
    "learn_histories",
    "multiply_histories",
    "rows_as_learned",
]
