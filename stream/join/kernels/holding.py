"""An impression is held: its body, with the state as of then, and what is counted of its user and item.

As in `state_store/lua/apply/30_state.lua` and `40_held.lua`.
"""

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy, get_u4, put_f4, put_f8, put_u4
from stream.join.kernels.arrays import (
    ARRIVED,
    BODIES_END,
    FIRST_TS,
    ITEMS_TOUCHED,
    LAST_TS,
    NORM,
    NORM_VERSION,
    USERS_TOUCHED,
    Arrays,
    Options,
    Records,
)
from stream.join.kernels.samples import note, touch
from stream.join.kernels.words import BODY_HEAD, CORE_HEAD, HELD, PRESENT, UNSAMPLED


@compiled_once
def mark(arrays: Arrays, which: int, entities_N: np.ndarray, n: int, column: int) -> None:
    """A column of a user or an item is to be written; `which` is the list of those that are touched."""
    of = entities_N[n]
    of.changed |= 1 << column
    if not of.is_touched:
        of.is_touched = 1
        note(arrays, which, n)


@compiled_once
def set_user(arrays: Arrays, user: int, column: int, value: float) -> None:
    """Change what is known of a user."""
    arrays.user_values_UX[user, column] = value
    mark(arrays, USERS_TOUCHED, arrays.users_U, user, column)


@compiled_once
def count_item(arrays: Arrays, item: int, column: int) -> None:
    """One more of what an item is counted for."""
    arrays.item_values_IX[item, column] += 1
    mark(arrays, ITEMS_TOUCHED, arrays.items_I, item, column)


@compiled_once
def put_state(arrays: Arrays, options: Options, at: int, user: int, item: int, rate: float) -> int:
    """The state as of now, behind a body; returns where it ends."""
    to, num_counts = arrays.bodies, 1 + options.num_actions
    for n in range(num_counts):
        at = put_u4(to, at, int(arrays.user_values_UX[user, n]))
    at = put_f4(to, at, arrays.user_values_UX[user, num_counts + NORM])
    at = put_u4(to, at, int(arrays.user_values_UX[user, num_counts + NORM_VERSION]))
    at = put_f8(to, at, arrays.user_values_UX[user, num_counts + FIRST_TS])
    at = put_f8(to, at, arrays.user_values_UX[user, num_counts + LAST_TS])
    for n in range(num_counts):
        at = put_u4(to, at, int(arrays.item_values_IX[item, n] + arrays.item_values_IX[item, num_counts + n]))
    at = put_f4(to, at, arrays.item_values_IX[item, 2 * num_counts + NORM])
    at = put_u4(to, at, int(arrays.item_values_IX[item, 2 * num_counts + NORM_VERSION]))
    return put_f8(to, at, rate)


@compiled_once
def find_parts(arrays: Arrays, s: int) -> None:
    """Read what a body says of itself: layout, sizes, and where the impression's id is, the first of its texts."""
    held, data = arrays.held_S[s], arrays.bodies
    at = held.body_at + BODY_HEAD
    held.tag, held.text_size, held.keys_size = get_u4(data, at), get_u4(data, at + 4), get_u4(data, at + 8)
    held.core_values = data[at + 12]
    at += CORE_HEAD
    mark = data[at]
    if mark < 192:
        held.id_at, held.id_size = at + 1, mark - 160
    elif mark == 217:
        held.id_at, held.id_size = at + 2, data[at + 1]
    else:
        held.id_at, held.id_size = at + 3, 256 * data[at + 1] + data[at + 2]


@compiled_once
def hold(arrays: Arrays, options: Options, records: Records, n: int, rate: float, is_chosen: bool) -> None:
    """An impression is held from now on."""
    record = records.records_N[n]
    s = record.held
    held = arrays.held_S[s]
    held.ts, held.state, held.user = record.ts, PRESENT, record.user
    held.phase = HELD if is_chosen else UNSAMPLED
    held.bits = held.is_labelled = held.is_touched = held.num_values = 0
    held.first_value = held.last_value = -1
    for t in range(options.num_tasks):
        arrays.held_S[s].first[t] = 0
        arrays.held_S[s].told[t] = 0
    begin = arrays.sizes[BODIES_END]
    arrays.bodies[begin] = 1
    at = put_f8(arrays.bodies, begin + 1, held.ts)
    at = copy(arrays.bodies, at, records.cores, record.core_at, record.core_at + record.what)
    at = put_state(arrays, options, at, record.user, record.item, rate)
    arrays.sizes[BODIES_END] = at
    held.body_at, held.body_size, held.is_body_new = begin, at - begin, 1
    find_parts(arrays, s)
    note(arrays, ARRIVED, s)
    touch(arrays, s)
