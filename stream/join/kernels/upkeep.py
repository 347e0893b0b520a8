"""Between calls: marks are taken back, histories cut, room is won again."""

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy
from stream.join.kernels.arrays import (
    BODIES_END,
    HISTORIES_END,
    ITEMS_TOUCHED,
    NUM_OF_CALL,
    TOUCHED,
    USERS_TOUCHED,
    VALUES,
    VIEWS,
    Arrays,
    Options,
)
from stream.join.kernels.histories import cut
from stream.join.kernels.words import GONE, PRESENT
from stream.join.kernels.writes import is_labelled_now


@compiled_once
def end_call(arrays: Arrays, options: Options, gone_S: np.ndarray) -> int:
    """All is written: nothing is touched, nothing counted; returns how many impressions are gone, and which."""
    num_gone, held_S, lists, sizes = 0, arrays.held_S, arrays.lists_4S, arrays.sizes
    for n in range(sizes[TOUCHED]):
        s = lists[TOUCHED, n]
        held = held_S[s]
        if held.state == GONE:
            gone_S[num_gone] = s
            num_gone += 1
        elif is_labelled_now(arrays, s):
            held.is_labelled = 1
        held.is_touched = held.is_body_new = 0
    for n in range(sizes[VIEWS]):
        view = arrays.views_E[n]
        arrays.histories_UH[view.user, view.history].shared = 0
    for n in range(sizes[USERS_TOUCHED]):
        user = lists[USERS_TOUCHED, n]
        arrays.users_U[user].is_touched = 0
        for h in range(options.num_histories):
            cut(arrays, options, user, h)
    for n in range(sizes[ITEMS_TOUCHED]):
        arrays.items_I[lists[ITEMS_TOUCHED, n]].is_touched = 0
    for n in range(NUM_OF_CALL):
        sizes[n] = 0
    for n in range(arrays.counts_2.shape[1]):
        arrays.counts_2[0, n] = arrays.counts_2[1, n] = 0
    return num_gone


@compiled_once
def bytes_held(arrays: Arrays, num: int) -> int:
    """Bytes that the bodies of the first `num` impressions take."""
    total = 0
    for s in range(num):
        if arrays.held_S[s].state == PRESENT:
            total += arrays.held_S[s].body_size
    return total


@compiled_once
def pack_bodies(arrays: Arrays, num: int, to: np.ndarray) -> None:
    """Put the bodies of the first `num` impressions one behind the other, into other memory."""
    end = 0
    for s in range(num):
        held = arrays.held_S[s]
        if held.state != PRESENT:
            continue
        held.id_at += end - held.body_at
        begin, held.body_at = held.body_at, end
        end = copy(to, end, arrays.bodies, begin, begin + held.body_size)
    arrays.sizes[BODIES_END] = end


@compiled_once
def pack_histories(arrays: Arrays, num: int, spare: int, to: np.ndarray) -> None:
    """Put the histories of the first `num` users one behind the other, into other memory, with room to grow."""
    end = 0
    for user in range(num):
        for h in range(arrays.histories_UH.shape[1]):
            history = arrays.histories_UH[user, h]
            copy(to, end, arrays.histories, history.at, history.at + history.size)
            history.at, history.room = end, history.size + spare
            end += history.size + spare
    arrays.sizes[HISTORIES_END] = end


@compiled_once
def pack_values(arrays: Arrays, num: int, to: np.ndarray) -> None:
    """Put the values of the first `num` impressions one behind the other, into other memory."""
    end = 0
    for s in range(num):
        held = arrays.held_S[s]
        at = held.first_value if held.state == PRESENT else -1
        if at >= 0:
            held.first_value = end
        while at >= 0:
            one, new = arrays.values_V[at], to[end]
            new.action, new.delay, new.value = one.action, one.delay, one.value
            at = one.next
            end += 1
            new.next = end if at >= 0 else -1
            held.last_value = end - 1
    arrays.sizes[VALUES] = end
