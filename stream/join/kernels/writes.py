"""What a call changes, as commands for `state_store/lua/commit.lua`, one behind the other.

command  '<BBHB' which, of which key, how many arguments, how many fields it makes at most (`ANY`: not to be checked)
argument '<I' how many bytes; the bytes
"""

import math
from typing import NamedTuple

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy, put_big_f8, put_u4
from stream.join.kernels.arrays import (
    ITEMS_TOUCHED,
    KEPT,
    TOUCHED,
    USERS_TOUCHED,
    Arrays,
    Options,
)
from stream.join.kernels.ids import IdArrays
from stream.join.kernels.words import DROPPED, GONE, HELD

HDEL, HSET, ZREM, ZADD, SADD, XADD, EXPIRE, HINCRBY = range(8)
"""Commands, by the numbers that the script knows."""
(
    NO_KEY,
    FENCE,
    WAITING,
    DUE,
    OUTBOX,
    DIRTY,
    DEAD_KEY,
    BODIES,
    LABELS,
    ARRIVALS,
) = range(10)
"""Keys; where there is none, it is the first argument."""
ANY = 255
HEAD = 5
MOST = 3900
"""Arguments of one command: Lua puts no more than some 8,000 values on its stack."""
WIDE = 65
"""One value this long keeps Redis from searching a hash of short ones from its beginning."""

END, BEGUN, ARGUMENTS = range(3)
"""Places of `place_3`: where what is written ends, where the last command begins, how many arguments it has."""


@compiled_once
def begin(to: np.ndarray, place_3: np.ndarray, command: int, key: int) -> None:
    """Begin a command."""
    at = place_3[END]
    to[at], to[at + 1], to[at + 4] = command, key, ANY
    place_3[BEGUN], place_3[END], place_3[ARGUMENTS] = at, at + HEAD, 0


@compiled_once
def finish(to: np.ndarray, place_3: np.ndarray, least: int) -> None:
    """End it; one of fewer arguments than `least` was none."""
    at, num = place_3[BEGUN], place_3[ARGUMENTS]
    if num < least:
        place_3[END] = at
        return
    to[at + 2], to[at + 3] = num & 255, num >> 8


@compiled_once
def next_of(to: np.ndarray, place_3: np.ndarray, num: int) -> None:
    """Begin the same command anew if it has no room for so many arguments more."""
    if place_3[ARGUMENTS] + num > MOST:
        command, key = to[place_3[BEGUN]], to[place_3[BEGUN] + 1]
        finish(to, place_3, 1)
        begin(to, place_3, command, key)


@compiled_once
def put(to: np.ndarray, place_3: np.ndarray, data: np.ndarray, start: int, stop: int) -> None:
    """An argument."""
    at = put_u4(to, place_3[END], stop - start)
    place_3[END] = copy(to, at, data, start, stop)
    place_3[ARGUMENTS] += 1


@compiled_once
def put_number(to: np.ndarray, place_3: np.ndarray, value: float) -> None:
    """A whole number as an argument, in digits."""
    number = int(abs(value))
    num_digits, rest = 1, number // 10
    while rest > 0:
        num_digits, rest = num_digits + 1, rest // 10
    sign = 1 if value < 0 else 0
    at = put_u4(to, place_3[END], num_digits + sign)
    if sign:
        to[at] = 45
    for n in range(num_digits):
        to[at + sign + num_digits - 1 - n] = 48 + number % 10
        number //= 10
    place_3[END] = at + sign + num_digits
    place_3[ARGUMENTS] += 1


@compiled_once
def put_id(arrays: Arrays, to: np.ndarray, place_3: np.ndarray, s: int) -> None:
    """An impression's id as an argument."""
    held = arrays.held_S[s]
    put(to, place_3, arrays.bodies, held.id_at, held.id_at + held.id_size)


@compiled_once
def put_labels(arrays: Arrays, options: Options, to: np.ndarray, place_3: np.ndarray, s: int) -> None:
    """What is known of an impression's labels, as an argument (`state_store/lua/apply/40_held.lua`)."""
    held, start = arrays.held_S[s], place_3[END]
    at = start + 4
    to[at] = held.bits
    to[at + 1] = held.phase + 8 * (options.num_tasks - 1) + (64 if held.num_values > 0 else 0)
    at += 2
    if held.bits:
        for t in range(options.num_tasks):
            at = put_big_f8(to, at, arrays.held_S[s].first[t])
    if options.num_tasks > 1:
        for t in range(options.num_tasks):
            to[at + t] = arrays.held_S[s].told[t]
        at += options.num_tasks
    if held.num_values > 0:
        to[at] = held.num_values
        at += 1
        one = held.first_value
        while one >= 0:
            value = arrays.values_V[one]
            to[at] = value.action + 1
            at = put_big_f8(to, at + 1, value.delay)
            if not math.isnan(value.value):
                at = put_big_f8(to, at, value.value)
            else:
                to[at], to[at + 1] = 255, 248
                for n in range(2, 8):
                    to[at + n] = 0
                at += 8
            one = value.next
    if held.phase == DROPPED:
        at = put_big_f8(to, at, held.passed)
    put_u4(to, start, at - start - 4)
    place_3[END] = at
    place_3[ARGUMENTS] += 1


@compiled_once
def is_labelled_now(arrays: Arrays, s: int) -> bool:
    """Whether there is anything to say of an impression's labels."""
    held = arrays.held_S[s]
    return bool(held.state != GONE and (held.phase != HELD or held.bits != 0))


@compiled_once
def write_held(arrays: Arrays, options: Options, to: np.ndarray, place_3: np.ndarray) -> None:
    """What changed of impressions; what is gone first, as a Redis that is full takes that."""
    num = arrays.sizes[TOUCHED]
    touched, held_S = arrays.lists_4S[TOUCHED], arrays.held_S
    begin(to, place_3, HDEL, BODIES)
    for n in range(num):
        if held_S[touched[n]].state == GONE and not held_S[touched[n]].is_body_new:
            next_of(to, place_3, 1)
            put_id(arrays, to, place_3, touched[n])
    finish(to, place_3, 1)
    begin(to, place_3, HSET, BODIES)
    for n in range(num):
        held = held_S[touched[n]]
        if held.state != GONE and held.is_body_new:
            next_of(to, place_3, 2)
            put_id(arrays, to, place_3, touched[n])
            put(to, place_3, arrays.bodies, held.body_at, held.body_at + held.body_size)
    finish(to, place_3, 1)
    begin(to, place_3, HDEL, LABELS)
    for n in range(num):
        if held_S[touched[n]].state == GONE and held_S[touched[n]].is_labelled:
            next_of(to, place_3, 1)
            put_id(arrays, to, place_3, touched[n])
    finish(to, place_3, 1)
    begin(to, place_3, HSET, LABELS)
    for n in range(num):
        if is_labelled_now(arrays, touched[n]):
            next_of(to, place_3, 2)
            put_id(arrays, to, place_3, touched[n])
            put_labels(arrays, options, to, place_3, touched[n])
    if place_3[ARGUMENTS]:
        next_of(to, place_3, 2)
        at = put_u4(to, place_3[END], 0)
        at = put_u4(to, at, WIDE)
        for n in range(WIDE):
            to[at + n] = 32
        place_3[END] = at + WIDE
        place_3[ARGUMENTS] += 2
    finish(to, place_3, 1)


@compiled_once
def put_key(to: np.ndarray, place_3: np.ndarray, naming: "Naming", n: int) -> None:
    """The key of a user or an item as an argument."""
    prefix, start, stop = naming.prefix, naming.ids.at_N[n], naming.ids.end_N[n]
    at = put_u4(to, place_3[END], len(prefix) + stop - start)
    at = copy(to, at, prefix, 0, len(prefix))
    place_3[END] = copy(to, at, naming.ids.texts, start, stop)
    place_3[ARGUMENTS] += 1


class Naming(NamedTuple):
    """How users, or items, are called in Redis, and how long they live there."""

    ids: IdArrays
    prefix: np.ndarray
    """uint8: of their keys."""
    fields: np.ndarray
    """uint8: names of all fields, one behind the other."""
    field_at_X: np.ndarray
    """Where each begins; the end."""
    renewed: int
    """The column that says in which sixteenth of a life it was given anew."""
    now_in: int
    """In which sixteenth it is now."""
    ttl_s: int
    """Of a new life."""


@compiled_once
def write_entity(
    arrays: Arrays,
    options: Options,
    to: np.ndarray,
    place_3: np.ndarray,
    n: int,
    entities_N: np.ndarray,
    values_NX: np.ndarray,
    naming: Naming,
) -> None:
    """What changed of user or item `n`.

    A life lasts a sixteenth longer than it is to, and is given anew once in that.
    """
    of, num_numbers, field_at_X = entities_N[n], values_NX.shape[1], naming.field_at_X
    is_due = values_NX[n, naming.renewed] != naming.now_in
    if is_due:
        values_NX[n, naming.renewed] = naming.now_in
        of.changed |= 1 << naming.renewed
    begin(to, place_3, HSET, 0)
    put_key(to, place_3, naming, n)
    num_new = 0
    for x in range(len(field_at_X) - 1):
        if not (of.changed >> x) & 1:
            continue
        put(to, place_3, naming.fields, field_at_X[x], field_at_X[x + 1])
        if x < num_numbers:
            put_number(to, place_3, values_NX[n, x])
        else:
            history, kept = arrays.histories_UH[n, x - num_numbers], options.histories_H3[x - num_numbers, KEPT]
            end = history.at + history.size
            put(to, place_3, arrays.histories, max(history.at, end - kept), end)
        num_new += 1 - (of.present >> x) & 1
    of.present |= of.changed
    of.changed = 0
    to[place_3[BEGUN] + 4] = num_new
    finish(to, place_3, 2)
    if is_due:
        begin(to, place_3, EXPIRE, 0)
        put_key(to, place_3, naming, n)
        put_number(to, place_3, float(naming.ttl_s))
        finish(to, place_3, 1)


@compiled_once
def write_entities(
    arrays: Arrays, options: Options, to: np.ndarray, place_3: np.ndarray, users: Naming, items: Naming
) -> None:
    """What changed of users and items, and which items did."""
    for at in range(arrays.sizes[USERS_TOUCHED]):
        n = arrays.lists_4S[USERS_TOUCHED, at]
        write_entity(arrays, options, to, place_3, n, arrays.users_U, arrays.user_values_UX, users)
    touched = arrays.lists_4S[ITEMS_TOUCHED]
    for at in range(arrays.sizes[ITEMS_TOUCHED]):
        write_entity(arrays, options, to, place_3, touched[at], arrays.items_I, arrays.item_values_IX, items)
    begin(to, place_3, SADD, DIRTY)
    for at in range(arrays.sizes[ITEMS_TOUCHED]):
        n = touched[at]
        next_of(to, place_3, 1)
        put(to, place_3, items.ids.texts, items.ids.at_N[n], items.ids.end_N[n])
    finish(to, place_3, 1)
