"""A table's arrays, and what is done to them in compiled code.

Legend: R rows, X values per row, F fields, S slots of the index, C cells of the admission filter, N occurrences.
"""

from typing import NamedTuple

import numpy as np

from learner.tables.admission import admits, note
from learner.tables.compiled import compiled, compiled_maker
from learner.tables.hashing import normal
from learner.tables.index import NO_KEY, NO_ROW, find, has_room, insert, remove

PUBLISH, CHECKPOINT, EXCHANGE = 1, 2, 4
"""Bits of `touched_R`: the row has changed since this consumer last took what had changed. The last one is the exchange
between several processes; where there is one, nobody asks."""
EVERYONE = PUBLISH | CHECKPOINT | EXCHANGE
NEWER_HERE, NEWER_THERE = 8, 16
"""Where a part of the values lies elsewhere, too, as in a GPU's memory: the row has changed here and not yet there, or
there and not yet here."""
_SEEN = CHECKPOINT | EXCHANGE
"""Whom it concerns that a row was only seen again."""
NEXT, NUM_FREE, NUM_REFUSED, SCANNED_TO, FREE_FROM = 0, 1, 2, 3, 4
"""What `counters_5` holds: the first row never used, rows in `free_R`, occurrences refused, where eviction goes on; and
from where on `free_R` may have changed since the last checkpoint."""

_EIGHT, _EACH_BYTE = 8, np.uint64(0x0101010101010101)


class Rows(NamedTuple):
    """Arrays that never move."""

    block_RX: np.ndarray
    """Values, float32: all groups of a row side by side, as they are used together."""
    key_R: np.ndarray
    """uint64; 0 where the row is free."""
    field_R: np.ndarray
    """uint8."""
    last_ts_R: np.ndarray
    """Event time of the last occurrence, ms, int64."""
    touched_R: np.ndarray
    """uint8, a bit per consumer."""
    free_R: np.ndarray
    """Rows given back, int32; the last one is used first."""
    counters_5: np.ndarray
    """int64."""
    cells_C2: np.ndarray
    filter_counters_2: np.ndarray
    noted_N: np.ndarray
    num_noted_1: np.ndarray
    """The admission filter's, as in `Admission`."""


class Start(NamedTuple):
    """What new rows start with, and who gets one."""

    fill_X: np.ndarray
    std_FX: np.ndarray
    seed_X: np.ndarray
    coordinate_X: np.ndarray
    """Of the group's standard normal vector."""
    min_count_F: np.ndarray
    filter_capacity: int


class Slots(NamedTuple):
    """The index' arrays, of which growth makes new ones."""

    keys_S: np.ndarray
    rows_S: np.ndarray
    size_1: np.ndarray


class Occurrences(NamedTuple):
    """Ids as they come."""

    keys_N: np.ndarray
    fields_N: np.ndarray
    ts_N: np.ndarray
    learn_N: np.ndarray
    """uint8; 0: it is looked up and changes nothing."""


@compiled
def assign(slots: Slots, rows: Rows, start: Start, ids: Occurrences, rows_N: np.ndarray, begin: int) -> int:
    """Row of each occurrence from `begin` on, made if the id is new and admitted; notes when it was seen.

    Returns:
        How far it came before the index had to grow; -1 - n if occurrence n has no such field.
    """
    for n in range(begin, len(ids.keys_N)):
        key, field = ids.keys_N[n], ids.fields_N[n]
        if field >= len(start.min_count_F):
            return -1 - n
        row = find(slots.keys_S, slots.rows_S, key)
        rows_N[n] = row
        if not ids.learn_N[n]:
            continue
        if row == NO_ROW and key != NO_KEY:
            if not has_room(slots.keys_S, slots.size_1[0]):
                return n
            if start.min_count_F[field] == 1 or _is_enough(rows, start, key, start.min_count_F[field]):
                row = _add(slots, rows, start, key, field)
        if row != NO_ROW and ids.ts_N[n] > rows.last_ts_R[row]:
            rows.last_ts_R[row] = ids.ts_N[n]
            rows.touched_R[row] |= _SEEN
        rows_N[n] = row
    return len(ids.keys_N)


@compiled
def _is_enough(rows: Rows, start: Start, key: np.uint64, min_count: int) -> bool:
    """Count an occurrence of an id that has no row; whether it is to get one."""
    note(rows.noted_N, rows.num_noted_1, key)
    return bool(admits(rows.cells_C2, rows.filter_counters_2, start.filter_capacity, key, min_count))


@compiled
def _add(slots: Slots, rows: Rows, start: Start, key: np.uint64, field: int) -> int:
    """A row for an id that has none, with its first values; `NO_ROW` if all are taken."""
    counters_5 = rows.counters_5
    if counters_5[NUM_FREE]:
        counters_5[NUM_FREE] -= 1
        counters_5[FREE_FROM] = min(counters_5[FREE_FROM], counters_5[NUM_FREE])
        row = int(rows.free_R[counters_5[NUM_FREE]])
    elif counters_5[NEXT] < len(rows.key_R):
        row = int(counters_5[NEXT])
        counters_5[NEXT] += 1
    else:
        counters_5[NUM_REFUSED] += 1
        return NO_ROW
    insert(slots.keys_S, slots.rows_S, key, row)
    slots.size_1[0] += 1
    rows.key_R[row], rows.field_R[row], rows.touched_R[row] = key, field, EVERYONE | NEWER_HERE
    fill(start, key, field, rows.block_RX[row])
    return row


@compiled
def fill(start: Start, key: np.uint64, field: int, row_X: np.ndarray) -> None:
    """The first values of an id's row."""
    for x in range(len(row_X)):
        value = start.fill_X[x]
        if start.std_FX[field, x] > 0:
            value += start.std_FX[field, x] * normal(key, start.seed_X[x], start.coordinate_X[x])
        row_X[x] = value


@compiled
def fill_many(start: Start, keys_N: np.ndarray, fields_N: np.ndarray, block_NX: np.ndarray) -> None:
    """The first values of several ids' rows."""
    for n in range(len(keys_N)):
        fill(start, keys_N[n], fields_N[n], block_NX[n])


@compiled
def release(slots: Slots, rows: Rows, row: int) -> None:
    """Give a row back. It stays touched for checkpoints, which must learn that it is free."""
    remove(slots.keys_S, slots.rows_S, rows.key_R[row])
    slots.size_1[0] -= 1
    rows.block_RX[row, :] = 0
    rows.key_R[row], rows.field_R[row], rows.last_ts_R[row], rows.touched_R[row] = NO_KEY, 0, 0, CHECKPOINT
    rows.free_R[rows.counters_5[NUM_FREE]] = row
    rows.counters_5[NUM_FREE] += 1


@compiled
def release_keys(slots: Slots, rows: Rows, keys_N: np.ndarray) -> int:
    """Give back the rows of those keys that have one; returns how many."""
    num_released = 0
    for n in range(len(keys_N)):
        row = find(slots.keys_S, slots.rows_S, keys_N[n])
        if row != NO_ROW:
            release(slots, rows, row)
            num_released += 1
    return num_released


@compiled_maker
def release_stale(slots: Slots, rows: Rows, before_ts: int, max_scanned: int) -> np.ndarray:
    """Give back rows last seen before a time, of the next `max_scanned` ones; returns their keys."""
    counters_5 = rows.counters_5
    num_scanned = min(max_scanned, counters_5[NEXT] - 1)
    keys_N, num_released = np.empty(max(num_scanned, 0), np.uint64), 0
    row = counters_5[SCANNED_TO]
    for _ in range(num_scanned):
        row = row + 1 if row + 1 < counters_5[NEXT] else 1
        if rows.key_R[row] != NO_KEY and rows.last_ts_R[row] < before_ts:
            keys_N[num_released] = rows.key_R[row]
            num_released += 1
            release(slots, rows, row)
    counters_5[SCANNED_TO] = row
    return keys_N[:num_released].copy()


@compiled_maker
def take_marked(touched_R: np.ndarray, end: int, bit: int) -> np.ndarray:
    """Rows below `end` that have the bit, ascending; it is cleared."""
    # Most rows have not changed, so eight are looked at together.
    num_eights = end // _EIGHT
    marks_E = touched_R[: num_eights * _EIGHT].view(np.uint64)
    pattern, num_marked = np.uint64(bit) * _EACH_BYTE, 0
    for eight in range(num_eights):
        if marks_E[eight] & pattern:
            for row in range(eight * _EIGHT, (eight + 1) * _EIGHT):
                num_marked += (touched_R[row] & bit) != 0
    for row in range(num_eights * _EIGHT, end):
        num_marked += (touched_R[row] & bit) != 0
    rows_N, n = np.empty(num_marked, np.int32), 0
    for eight in range(num_eights + 1):
        if eight == num_eights or marks_E[eight] & pattern:
            for row in range(eight * _EIGHT, min((eight + 1) * _EIGHT, end)):
                if touched_R[row] & bit:
                    rows_N[n] = row
                    n += 1
                    touched_R[row] &= ~bit
    return rows_N
