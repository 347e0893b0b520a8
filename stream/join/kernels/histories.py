"""What a user did, newest last, and what of it samples carry (`state_store/lua/apply/25_histories.lua`).

Entries are in the order of event time, then of their keys: the order in which feedback comes decides nothing. Within a
call a history only grows at its end, so that samples can name what they carry by place; where something lands between
older entries, the samples' view stays with a copy of what was.
"""

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy, get_f8, get_u4, put_f8
from stream.join.kernels.arrays import HISTORIES_END, KEPT, LENGTH, MASK, NUM_OF_USER, VIEWS, Arrays, Options
from stream.join.kernels.words import BODY_HEAD, CORE_HEAD, ENTRY


@compiled_once
def goes_behind(data: np.ndarray, one: int, other: int) -> bool:
    """Whether the entry at `one` goes behind that at `other`."""
    ts, other_ts = get_f8(data, one), get_f8(data, other)
    if ts != other_ts:
        return ts > other_ts
    for word in (3, 2, 5):
        mine, its = get_u4(data, one + 4 * word), get_u4(data, other + 4 * word)
        if mine != its:
            return mine > its
    return get_u4(data, one + 16) >= get_u4(data, other + 16)


@compiled_once
def make_room(arrays: Arrays, user: int, h: int, room: int) -> None:
    """Move a history to where it has so many bytes; there is room behind all of them."""
    history = arrays.histories_UH[user, h]
    at, size = history.at, history.size
    end = arrays.sizes[HISTORIES_END]
    copy(arrays.histories, end, arrays.histories, at, at + size)
    history.at, history.room = end, room
    arrays.sizes[HISTORIES_END] = end + room


@compiled_once
def leave_view(arrays: Arrays, user: int, h: int) -> None:
    """The history is about to be another: samples that have left share what it was."""
    history = arrays.histories_UH[user, h]
    if history.shared == 0:
        return
    at, size = history.at, history.size
    end = arrays.sizes[HISTORIES_END]
    copy(arrays.histories, end, arrays.histories, at, at + size)
    arrays.views_E[history.shared - 1].at = end
    arrays.sizes[HISTORIES_END] = end + size
    history.shared = 0


@compiled_once
def place_of(options: Options, tag: int) -> int:
    """Which row of `Options.places_PH2` is about a layout; -1 if it is not known where its keys are."""
    for n in range(len(options.places_PH2)):
        if options.places_PH2[n, 0] == tag:
            return n
    return -1


@compiled_once
def remember(arrays: Arrays, options: Options, s: int, user: int, mask: int, ts: float) -> None:
    """Add what an action says to the user's histories."""
    held = arrays.held_S[s]
    place = place_of(options, held.tag)
    if place < 0:
        return
    row_at = held.body_at + BODY_HEAD + CORE_HEAD + held.text_size + held.keys_size
    for h in range(options.num_histories):
        if mask & options.histories_H3[h, MASK] == 0:
            continue
        history = arrays.histories_UH[user, h]
        if history.size + ENTRY > history.room:
            make_room(arrays, user, h, 2 * history.size + 4 * ENTRY)
        data, end = arrays.histories, history.at + history.size
        put_f8(data, end, ts)
        item_at = row_at + options.places_PH2[place, 1]
        copy(data, end + 8, arrays.bodies, item_at, item_at + 8)
        by = options.places_PH2[place, h + 2]
        for n in range(8):
            data[end + 16 + n] = arrays.bodies[row_at + by + n] if by >= 0 else 0
        arrays.users_U[user].changed |= 1 << (options.num_actions + 1 + NUM_OF_USER + h)
        if history.size == 0 or goes_behind(data, end, end - ENTRY):
            history.size += ENTRY
        else:
            insert(arrays, options, user, h)


@compiled_once
def insert(arrays: Arrays, options: Options, user: int, h: int) -> None:
    """Bring the entry that has been put behind a history to its place, and cut the history to what is kept."""
    leave_view(arrays, user, h)
    history = arrays.histories_UH[user, h]
    data, end = arrays.histories, history.at + history.size
    place = end - ENTRY
    while place > history.at and not goes_behind(data, end, place - ENTRY):
        place -= ENTRY
    # Byte by byte of the entry: it waits behind the end while the others move up.
    for n in range(ENTRY):
        byte = data[end + n]
        move = end + n
        while move > place + n:
            data[move] = data[move - ENTRY]
            move -= ENTRY
        data[place + n] = byte
    history.size += ENTRY
    cut(arrays, options, user, h)


@compiled_once
def cut(arrays: Arrays, options: Options, user: int, h: int) -> None:
    """Only the newest of a history are kept."""
    history = arrays.histories_UH[user, h]
    over = history.size - options.histories_H3[h, KEPT]
    if over > 0:
        history.at += over
        history.size -= over
        history.room -= over


@compiled_once
def carry(arrays: Arrays, options: Options, s: int, sample: int) -> None:
    """Note what a sample carries: the newest entries of its user before its impression."""
    held, data = arrays.held_S[s], arrays.histories
    user, ts = held.user, held.ts
    for h in range(options.num_histories):
        history = arrays.histories_UH[user, h]
        at, last = history.at, history.size
        first = max(last - options.histories_H3[h, KEPT], 0)
        # Of who has just been shown something all is before; of whom it is told later, much may have come since.
        if last > first and get_f8(data, at + last - ENTRY) >= ts:
            low, high = first // ENTRY, last // ENTRY - 1
            while low < high:
                middle = (low + high) // 2
                if get_f8(data, at + middle * ENTRY) < ts:
                    low = middle + 1
                else:
                    high = middle
            last = low * ENTRY
        first = max(last - options.histories_H3[h, LENGTH], first)
        carried = arrays.carried_EH[sample, h]
        carried.begin, carried.end, carried.shared = first, last, -1
        if first < last:
            carried.shared = view_of(arrays, user, h, first, last)


@compiled_once
def view_of(arrays: Arrays, user: int, h: int, begin: int, end: int) -> int:
    """The view of a user's history that has these bytes of it."""
    history = arrays.histories_UH[user, h]
    if history.shared == 0:
        view = arrays.sizes[VIEWS]
        arrays.sizes[VIEWS] = view + 1
        history.shared = view + 1
        new = arrays.views_E[view]
        new.at, new.user, new.history, new.begin, new.end = -1, user, h, begin, end
        return int(view)
    known = arrays.views_E[history.shared - 1]
    known.begin, known.end = min(known.begin, begin), max(known.end, end)
    return int(history.shared - 1)
