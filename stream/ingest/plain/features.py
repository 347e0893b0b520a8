"""Values of the declared fields: where they are in a record's text, and what samples carry of them.

Legend: F declared fields but for user and item.
"""

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import put_f4, put_u8
from stream.ingest.plain.declared import FEATURES, MULTI, NUMERIC, Declared, Scratch
from stream.ingest.plain.events import clear
from stream.ingest.plain.hashes import LONGEST, xxh3
from stream.ingest.plain.tokens import (
    CLOSE_LIST,
    CLOSE_OBJECT,
    COMMA,
    MINUS,
    NINE,
    OPEN_LIST,
    QUOTE,
    SMALL_N,
    ZERO,
    is_whole,
    key_end,
    number_end,
    number_of,
    number_of_name,
    pair_end,
    scalar_end,
    space_end,
    value_begin,
    value_end,
)

_MOST_VALUES, _LARGEST = 256, 1e9
_ONE, _NONE = np.uint64(1), np.uint64(0)


@compiled_once
def _is_number(byte: int) -> bool:
    return byte == MINUS or ZERO <= byte <= NINE


@compiled_once
def _is_one_value(text: np.ndarray, at: int, end: int) -> bool:
    """Whether a scalar is a text, or a whole number, which stands for its digits; and not too long."""
    if text[at] == QUOTE:
        return end - at - 2 <= LONGEST
    return _is_number(text[at]) and is_whole(text, at, end)


@compiled_once
def _is_list(text: np.ndarray, at: int, end: int) -> bool:
    """Whether all of a list are such values, and not too many."""
    at, num = space_end(text, at + 1, end), 0
    while text[at] != CLOSE_LIST:
        behind = scalar_end(text, at, end, True)
        num += 1
        if num > _MOST_VALUES or not _is_one_value(text, at, behind):
            return False
        at = space_end(text, behind, end)
        if text[at] == COMMA:
            at = space_end(text, at + 1, end)
    return True


@compiled_once
def _is_plain(text: np.ndarray, at: int, end: int, kind: int) -> bool:
    """Whether a value is one of its field's kind, in plain form."""
    if kind == NUMERIC:
        return _is_number(text[at]) and abs(number_of(text, at, end)) <= _LARGEST
    if kind == MULTI and text[at] == OPEN_LIST:
        return _is_list(text, at, end)
    return _is_one_value(text, at, end)


@compiled_once
def find_values(text: np.ndarray, is_utf8: bool, declared: Declared, scratch: Scratch) -> bool:
    """Find the values of all fields; returns whether they are plain."""
    values_F2 = scratch.values_F2
    clear(values_F2)
    at, end = scratch.parts_K2[FEATURES, 0], scratch.parts_K2[FEATURES, 1]
    if at < 0:
        return bool(at == -1)
    at = space_end(text, at + 1, end)
    if text[at] == CLOSE_OBJECT:
        return True
    guess = 0
    while at >= 0:
        quote = key_end(text, at, end, is_utf8)
        field = number_of_name(text, at + 1, quote, declared.fields.texts, declared.fields.ends, guess)
        at = value_begin(text, quote, end)
        behind = value_end(text, at, end, is_utf8)
        if field >= 0:
            if values_F2[field, 0] != -1:
                return False
            guess = field + 1
            if text[at] == SMALL_N:
                values_F2[field, 0] = -2
            elif _is_plain(text, at, behind, declared.kinds_F[field]):
                values_F2[field, 0], values_F2[field, 1] = at, behind
            else:
                return False
        at = pair_end(text, behind, end)
    return True


@compiled_once
def key_of(text: np.ndarray, at: int, end: int, seed: np.uint64) -> np.uint64:
    """Key of a text, as `learner.samples.keys.value_key` has it."""
    found = xxh3(text, at, end, np.uint64(seed))
    return _ONE if found == _NONE else found


@compiled_once
def _key_of_value(text: np.ndarray, at: int, end: int, seed: np.uint64) -> np.uint64:
    if text[at] == QUOTE:
        return key_of(text, at + 1, end - 1, seed)
    return key_of(text, at, end, seed)


@compiled_once
def put_lists(text: np.ndarray, declared: Declared, scratch: Scratch, to: np.ndarray, at: int) -> int:
    """Write keys of the values of all fields that have several; returns where they end."""
    for f in range(len(declared.kinds_F)):
        begin, end = scratch.values_F2[f, 0], scratch.values_F2[f, 1]
        if begin < 0 or declared.kinds_F[f] != MULTI:
            continue
        seed = declared.seeds_F[f]
        if text[begin] != OPEN_LIST:
            at = put_u8(to, at, _key_of_value(text, begin, end, seed))
            continue
        begin = space_end(text, begin + 1, end)
        while text[begin] != CLOSE_LIST:
            behind = scalar_end(text, begin, end, True)
            at = put_u8(to, at, _key_of_value(text, begin, behind, seed))
            begin = space_end(text, behind, end)
            if text[begin] == COMMA:
                begin = space_end(text, begin + 1, end)
    return at


@compiled_once
def _num_values(text: np.ndarray, at: int, end: int) -> int:
    if text[at] != OPEN_LIST:
        return 1
    at, num = space_end(text, at + 1, end), 0
    while text[at] != CLOSE_LIST:
        num += 1
        at = space_end(text, scalar_end(text, at, end, True), end)
        if text[at] == COMMA:
            at = space_end(text, at + 1, end)
    return num


@compiled_once
def put_values(text: np.ndarray, declared: Declared, scratch: Scratch, to: np.ndarray, fixed_at: int) -> None:
    """Write keys, numbers, and how many values fields of several have, into an impression's fixed part."""
    for f in range(len(declared.kinds_F)):
        begin, end, at = scratch.values_F2[f, 0], scratch.values_F2[f, 1], fixed_at + declared.places_F[f]
        if begin < 0:
            continue
        if declared.kinds_F[f] == NUMERIC:
            put_f4(to, at, number_of(text, begin, number_end(text, begin, end)))
        elif declared.kinds_F[f] == MULTI:
            num = _num_values(text, begin, end)
            to[at], to[at + 1] = num & 255, num >> 8
        else:
            put_u8(to, at, _key_of_value(text, begin, end, declared.seeds_F[f]))
