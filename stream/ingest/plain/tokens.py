"""JSON's tokens, in text of many records: where each ends, what it says. Functions give -1 for what is not plain.

Plain are strings without escapes, numbers, literals, and lists of these; not objects within objects.
"""

import numpy as np

from learner.tables.compiled import compiled, compiled_once

QUOTE, BACKSLASH, COMMA, COLON = 34, 92, 44, 58
OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93
MINUS, PLUS, POINT, ZERO, NINE = 45, 43, 46, 48, 57
SMALL_E, LARGE_E, SMALL_N, SMALL_T, SMALL_F = 101, 69, 110, 116, 102
_NUL_OF_TEXT, _NOT_ASCII = 32, 128

_MOST_DIGITS, _MOST_WHOLE, _MOST_FRACTION = 19, 18, 18
_DOUBLE, _SMALLEST = np.uint64(1 << 53), np.uint64(1 << 52)
"""Whole numbers up to the first are doubles; from the second on they have as many bits as one."""
_TEN, _TWO, _ONE, _NONE = np.uint64(10), np.uint64(2), np.uint64(1), np.uint64(0)


@compiled_once
def space_end(text: np.ndarray, at: int, end: int) -> int:
    """Behind white space."""
    while at < end and (text[at] == 32 or text[at] == 10 or text[at] == 13 or text[at] == 9):
        at += 1
    return at


@compiled_once
def string_end(text: np.ndarray, at: int, end: int, is_utf8: bool) -> int:
    """The quote that ends a string.

    Args:
        text: of all records.
        at: behind the quote that begins it.
        end: of the record.
        is_utf8: whether all of the text is known to be UTF-8; else no string that is not ASCII is plain.
    """
    while at < end:
        byte = text[at]
        if byte == QUOTE:
            return at
        if byte == BACKSLASH or byte < _NUL_OF_TEXT or (byte >= _NOT_ASCII and not is_utf8):
            return -1
        at += 1
    return -1


@compiled_once
def _digits_end(text: np.ndarray, at: int, end: int) -> int:
    while at < end and ZERO <= text[at] <= NINE:
        at += 1
    return at


@compiled_once
def number_end(text: np.ndarray, at: int, end: int) -> int:
    """Behind a number of any form that JSON has."""
    if at < end and text[at] == MINUS:
        at += 1
    behind = _digits_end(text, at, end)
    if behind == at or (text[at] == ZERO and behind > at + 1):
        return -1
    at = behind
    if at < end and text[at] == POINT:
        behind = _digits_end(text, at + 1, end)
        if behind == at + 1:
            return -1
        at = behind
    if at < end and (text[at] == SMALL_E or text[at] == LARGE_E):
        at += 1
        if at < end and (text[at] == PLUS or text[at] == MINUS):
            at += 1
        behind = _digits_end(text, at, end)
        if behind == at:
            return -1
        at = behind
    return at


@compiled_once
def is_whole(text: np.ndarray, at: int, end: int) -> bool:
    """Whether a number is a whole one as Python would write it, of digits that 64 bits hold."""
    begin = at + 1 if text[at] == MINUS else at
    if end - begin > _MOST_WHOLE or (begin > at and text[begin] == ZERO):
        return False
    return _digits_end(text, begin, end) == end


@compiled_once
def whole_of(text: np.ndarray, at: int, end: int) -> int:
    """A whole number that is not negative; -1 for any other."""
    if text[at] == MINUS or not is_whole(text, at, end):
        return -1
    found = 0
    for n in range(at, end):
        found = 10 * found + text[n] - ZERO
    return found


@compiled
def _quotient(whole: np.uint64, parts: np.uint64) -> float:
    """Nearest double, ties to even, of the quotient of two whole numbers above 0, the second below 2^63."""
    found, rest, exponent = whole // parts, whole % parts, 0
    while found < _SMALLEST:
        rest *= _TWO
        found *= _TWO
        exponent -= 1
        if rest >= parts:
            rest -= parts
            found += _ONE
    rest *= _TWO
    is_up = rest > parts or (rest == parts and found & _ONE == _ONE)
    if is_up:
        found += _ONE
    return float(np.ldexp(float(found), exponent))


@compiled_once
def number_of(text: np.ndarray, at: int, end: int) -> float:
    """What a number says, correctly rounded; NaN if it has an exponent, too many digits, or is minus zero."""
    is_negative = text[at] == MINUS
    found, num_digits, num_behind, is_behind = _NONE, 0, 0, False
    for n in range(at + 1 if is_negative else at, end):
        byte = text[n]
        if byte == POINT:
            is_behind = True
            continue
        if not ZERO <= byte <= NINE or num_digits == _MOST_DIGITS:
            return np.nan
        found = found * _TEN + np.uint64(byte - ZERO)
        # Zeros in front say nothing.
        if found > _NONE:
            num_digits += 1
        if is_behind:
            num_behind += 1
    if num_behind > _MOST_FRACTION or (is_negative and found == _NONE):
        return np.nan
    value = float(found)
    if num_behind > 0 and found > _NONE:
        parts = _ONE
        for _ in range(num_behind):
            parts *= _TEN
        if found <= _DOUBLE and parts <= _DOUBLE:
            # Both are doubles, and so is their quotient, rounded once.
            value = float(found) / float(parts)
        elif found // parts < _DOUBLE:
            value = _quotient(found, parts)
        else:
            return np.nan
    return -value if is_negative else value


@compiled_once
def literal_end(text: np.ndarray, at: int, end: int, first: int) -> int:
    """Behind `null`, `true` or `false`, of which `first` is the first letter; -1 if it is not that."""
    if first == SMALL_N:
        is_it = (
            at + 4 <= end
            and text[at] == SMALL_N
            and text[at + 1] == 117
            and text[at + 2] == 108
            and text[at + 3] == 108
        )
        return at + 4 if is_it else -1
    if first == SMALL_T:
        is_it = (
            at + 4 <= end
            and text[at] == SMALL_T
            and text[at + 1] == 114
            and text[at + 2] == 117
            and text[at + 3] == SMALL_E
        )
        return at + 4 if is_it else -1
    is_it = (
        at + 5 <= end
        and text[at] == SMALL_F
        and text[at + 1] == 97
        and text[at + 2] == 108
        and text[at + 3] == 115
        and text[at + 4] == SMALL_E
    )
    return at + 5 if is_it else -1


@compiled_once
def scalar_end(text: np.ndarray, at: int, end: int, is_utf8: bool) -> int:
    """Behind a string, a number or a literal."""
    if at < 0 or at >= end:
        return -1
    byte = text[at]
    if byte == QUOTE:
        behind = string_end(text, at + 1, end, is_utf8)
        return -1 if behind < 0 else behind + 1
    if byte == MINUS or ZERO <= byte <= NINE:
        return number_end(text, at, end)
    if byte in (SMALL_N, SMALL_T, SMALL_F):
        return literal_end(text, at, end, byte)
    return -1


@compiled_once
def value_end(text: np.ndarray, at: int, end: int, is_utf8: bool) -> int:
    """Behind a scalar, or a list of scalars."""
    if at < 0 or at >= end or text[at] != OPEN_LIST:
        return scalar_end(text, at, end, is_utf8)
    at = space_end(text, at + 1, end)
    if at < end and text[at] == CLOSE_LIST:
        return at + 1
    while True:
        at = scalar_end(text, at, end, is_utf8)
        if at < 0:
            return -1
        at = space_end(text, at, end)
        if at >= end:
            return -1
        if text[at] == CLOSE_LIST:
            return at + 1
        if text[at] != COMMA:
            return -1
        at = space_end(text, at + 1, end)


@compiled_once
def is_name(text: np.ndarray, at: int, end: int, names: np.ndarray, begin: int, stop: int) -> bool:
    """Whether a text is one of `names`."""
    if end - at != stop - begin:
        return False
    n = 0
    while at + n < end and text[at + n] == names[begin + n]:
        n += 1
    return at + n == end


@compiled_once
def number_of_name(text: np.ndarray, at: int, end: int, names: np.ndarray, ends: np.ndarray, guess: int) -> int:
    """Which of some names a text is, -1 for none of them, or for a text that has no end.

    Args:
        text: of all records.
        at: where it begins.
        end: where it ends.
        names: one behind the other.
        ends: 0, and where each of them ends.
        guess: which is looked at first.
    """
    num = len(ends) - 1
    for n in range(num):
        one = guess + n
        if one >= num:
            one -= num
        if is_name(text, at, end, names, ends[one], ends[one + 1]):
            return one
    return -1


@compiled_once
def key_end(text: np.ndarray, at: int, end: int, is_utf8: bool) -> int:
    """The quote that ends a key of an object whose first quote is at `at`."""
    if at >= end or text[at] != QUOTE:
        return -1
    return string_end(text, at + 1, end, is_utf8)


@compiled_once
def value_begin(text: np.ndarray, quote: int, end: int) -> int:
    """Where the value begins whose key ends with a quote; -1 if there is none of either."""
    if quote < 0:
        return -1
    at = space_end(text, quote + 1, end)
    if at >= end or text[at] != COLON:
        return -1
    at = space_end(text, at + 1, end)
    return at if at < end else -1


@compiled_once
def pair_end(text: np.ndarray, at: int, end: int) -> int:
    """What follows a value: the quote of the next key; -2 less the place behind it, if the object ends; -1: neither."""
    if at < 0:
        return -1
    at = space_end(text, at, end)
    if at >= end:
        return -1
    if text[at] == CLOSE_OBJECT:
        return -3 - at
    if text[at] != COMMA:
        return -1
    at = space_end(text, at + 1, end)
    return at if at < end and text[at] == QUOTE else -1
