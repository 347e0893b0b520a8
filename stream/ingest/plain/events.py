"""Where the parts of an event are in its text (`stream/events.py` says what an event is)."""

import numpy as np

from learner.tables.compiled import compiled_once
from stream.ingest.plain.declared import (
    ACTION,
    ARM,
    CANARY,
    DOMAIN,
    FEATURES,
    IMP,
    ITEM,
    OTHER,
    OTHER_VERSION,
    POSITION,
    PROBABILITY,
    PROPENSITY,
    SERVED,
    STAGE,
    TS,
    TYPE,
    USER,
    VALUE,
    VERSION,
    Declared,
    Scratch,
)
from stream.ingest.plain.hashes import LONGEST
from stream.ingest.plain.tokens import (
    CLOSE_OBJECT,
    MINUS,
    NINE,
    OPEN_OBJECT,
    QUOTE,
    SMALL_F,
    SMALL_N,
    SMALL_T,
    ZERO,
    key_end,
    literal_end,
    number_end,
    number_of,
    number_of_name,
    pair_end,
    space_end,
    string_end,
    value_begin,
    value_end,
    whole_of,
)

_MOST_TIME, _MOST_POSITION, _LONGEST_ARM, _LARGEST_VALUE = 1 << 53, 1 << 20, 64, 1e15
_NULL = -2


@compiled_once
def clear(parts_K2: np.ndarray) -> None:
    """No part is there."""
    for k in range(len(parts_K2)):
        parts_K2[k, 0], parts_K2[k, 1] = -1, -1


@compiled_once
def _note(parts_K2: np.ndarray, part: int, at: int, end: int) -> None:
    parts_K2[part, 0], parts_K2[part, 1] = at, end


@compiled_once
def _text_end(text: np.ndarray, at: int, end: int, is_utf8: bool, parts_K2: np.ndarray, part: int) -> int:
    """Behind a string."""
    if text[at] != QUOTE:
        return -1
    quote = string_end(text, at + 1, end, is_utf8)
    if quote < 0:
        return -1
    _note(parts_K2, part, at + 1, quote)
    return quote + 1


@compiled_once
def _number_end(text: np.ndarray, at: int, end: int, parts_K2: np.ndarray, part: int) -> int:
    """Behind a number."""
    if text[at] != MINUS and not ZERO <= text[at] <= NINE:
        return -1
    behind = number_end(text, at, end)
    if behind >= 0:
        _note(parts_K2, part, at, behind)
    return behind


@compiled_once
def _null_end(text: np.ndarray, at: int, end: int, parts_K2: np.ndarray, part: int) -> int:
    behind = literal_end(text, at, end, SMALL_N)
    if behind >= 0:
        _note(parts_K2, part, _NULL, _NULL)
    return behind


@compiled_once
def _object_end(text: np.ndarray, at: int, end: int, is_utf8: bool, parts_K2: np.ndarray, part: int) -> int:
    """Behind an object of scalars and lists of them; what is in it is looked at later."""
    if text[at] != OPEN_OBJECT:
        return -1
    begin = at
    at = space_end(text, at + 1, end)
    if at < end and text[at] == CLOSE_OBJECT:
        _note(parts_K2, part, begin, at + 1)
        return at + 1
    while at >= 0:
        quote = key_end(text, at, end, is_utf8)
        at = value_begin(text, quote, end)
        at = value_end(text, at, end, is_utf8)
        at = pair_end(text, at, end)
    if at == -1:
        return -1
    _note(parts_K2, part, begin, -2 - at)
    return -2 - at


@compiled_once
def _part_end(text: np.ndarray, at: int, end: int, is_utf8: bool, parts_K2: np.ndarray, part: int) -> int:
    """Behind the value of one of an event's keys."""
    if part <= ACTION:
        return _text_end(text, at, end, is_utf8, parts_K2, part)
    if part in (FEATURES, SERVED):
        if part == SERVED and text[at] == SMALL_N:
            return _null_end(text, at, end, parts_K2, part)
        return _object_end(text, at, end, is_utf8, parts_K2, part)
    if part != TS and text[at] == SMALL_N:
        return _null_end(text, at, end, parts_K2, part)
    if part <= STAGE:
        return _text_end(text, at, end, is_utf8, parts_K2, part)
    return _number_end(text, at, end, parts_K2, part)


@compiled_once
def find_parts(text: np.ndarray, at: int, end: int, is_utf8: bool, declared: Declared, scratch: Scratch) -> bool:
    """Find the parts of an event; returns whether it is plain so far."""
    parts_K2 = scratch.parts_K2
    clear(parts_K2)
    at = space_end(text, at, end)
    if at >= end or text[at] != OPEN_OBJECT:
        return False
    at, guess = space_end(text, at + 1, end), 0
    while at >= 0:
        quote = key_end(text, at, end, is_utf8)
        part = number_of_name(text, at + 1, quote, declared.parts.texts, declared.parts.ends, guess)
        at = value_begin(text, quote, end)
        if part < 0:
            at = value_end(text, at, end, is_utf8)
        elif parts_K2[part, 0] != -1 or at < 0:
            return False
        else:
            guess = part + 1
            at = _part_end(text, at, end, is_utf8, parts_K2, part)
        at = pair_end(text, at, end)
    return at != -1 and space_end(text, -2 - at, end) == end


@compiled_once
def is_text(parts_K2: np.ndarray, part: int) -> bool:
    """Whether a text is there, and neither empty nor too long."""
    size = parts_K2[part, 1] - parts_K2[part, 0]
    return bool(parts_K2[part, 0] >= 0 and 0 < size <= LONGEST)


@compiled_once
def has_ids(parts_K2: np.ndarray) -> bool:
    """Whether impression, user and item are said."""
    return is_text(parts_K2, IMP) and is_text(parts_K2, USER) and is_text(parts_K2, ITEM)


@compiled_once
def time_of(text: np.ndarray, parts_K2: np.ndarray) -> int:
    """Event time, -1 if it is not plain."""
    if parts_K2[TS, 0] < 0:
        return -1
    found = whole_of(text, parts_K2[TS, 0], parts_K2[TS, 1])
    return found if found <= _MOST_TIME else -1


@compiled_once
def _share(text: np.ndarray, parts_K2: np.ndarray, part: int) -> float:
    """A number from 0 to 1; NaN if it is not that, or not there."""
    if parts_K2[part, 0] < 0:
        return np.nan
    found = number_of(text, parts_K2[part, 0], parts_K2[part, 1])
    return found if 0 <= found <= 1 else np.nan


@compiled_once
def _is_whole_up_to(text: np.ndarray, parts_K2: np.ndarray, part: int, most: int) -> bool:
    """Whether a part is absent, or a whole number from 0 to `most`."""
    if parts_K2[part, 0] < 0:
        return True
    return 0 <= whole_of(text, parts_K2[part, 0], parts_K2[part, 1]) <= most


@compiled_once
def find_served(text: np.ndarray, is_utf8: bool, declared: Declared, scratch: Scratch) -> bool:
    """Find what an impression says of how it was served; returns whether that is plain."""
    found_K2 = scratch.served_K2
    clear(found_K2)
    at, end = scratch.parts_K2[SERVED, 0], scratch.parts_K2[SERVED, 1]
    if at < 0:
        return True
    at = space_end(text, at + 1, end)
    if text[at] == CLOSE_OBJECT:
        return False
    guess = 0
    while at >= 0:
        quote = key_end(text, at, end, is_utf8)
        part = number_of_name(text, at + 1, quote, declared.served_parts.texts, declared.served_parts.ends, guess)
        at = value_begin(text, quote, end)
        if part < 0:
            at = value_end(text, at, end, is_utf8)
        elif found_K2[part, 0] != -1:
            return False
        else:
            guess = part + 1
            if part == ARM:
                at = _text_end(text, at, end, is_utf8, found_K2, part)
            elif part == CANARY:
                begin = at
                at = literal_end(text, at, end, SMALL_T if text[at] == SMALL_T else SMALL_F)
                _note(found_K2, part, begin, at)
            elif part == OTHER and text[at] == SMALL_N:
                at = _null_end(text, at, end, found_K2, part)
            else:
                at = _number_end(text, at, end, found_K2, part)
        at = pair_end(text, at, end)
    return (
        at != -1
        and not np.isnan(_share(text, found_K2, PROBABILITY))
        and (found_K2[OTHER, 0] < 0 or not np.isnan(_share(text, found_K2, OTHER)))
        and found_K2[ARM, 1] - found_K2[ARM, 0] <= _LONGEST_ARM
        and _is_whole_up_to(text, found_K2, VERSION, _MOST_TIME)
        and _is_whole_up_to(text, found_K2, OTHER_VERSION, _MOST_TIME)
    )


@compiled_once
def is_shown_plainly(text: np.ndarray, declared: Declared, parts_K2: np.ndarray) -> bool:
    """Whether domain, stage, position and propensity are plain, or not there."""
    are_there = parts_K2[DOMAIN, 0] != -1 or parts_K2[STAGE, 0] != -1 or parts_K2[POSITION, 0] != -1
    if declared.are_places_fields and are_there:
        return False
    for part in (DOMAIN, STAGE):
        if parts_K2[part, 0] >= 0 and not is_text(parts_K2, part):
            return False
    if not _is_whole_up_to(text, parts_K2, POSITION, _MOST_POSITION):
        return False
    return bool(parts_K2[PROPENSITY, 0] < 0 or _share(text, parts_K2, PROPENSITY) > 0)


@compiled_once
def value_of(text: np.ndarray, parts_K2: np.ndarray) -> float:
    """The value of feedback; NaN if there is none, or none that is plain."""
    if parts_K2[VALUE, 0] < 0:
        return np.nan
    found = number_of(text, parts_K2[VALUE, 0], parts_K2[VALUE, 1])
    return found if abs(found) <= _LARGEST_VALUE else np.nan


@compiled_once
def number_among(text: np.ndarray, parts_K2: np.ndarray, part: int, names: np.ndarray, ends: np.ndarray) -> int:
    """Which of some names a part is; -1 for none of them."""
    if parts_K2[part, 0] < 0:
        return -1
    return number_of_name(text, parts_K2[part, 0], parts_K2[part, 1], names, ends, 0)


@compiled_once
def type_of(text: np.ndarray, declared: Declared, parts_K2: np.ndarray) -> int:
    """Which kind of record it is; 0 if that is not plain."""
    found = number_among(text, parts_K2, TYPE, declared.types.texts, declared.types.ends)
    return 0 if found < 0 else declared.numbers_of_types[found]


@compiled_once
def action_of(text: np.ndarray, declared: Declared, parts_K2: np.ndarray) -> int:
    """Which action it is, from 1; 0 if none that is declared."""
    return 1 + number_among(text, parts_K2, ACTION, declared.actions.texts, declared.actions.ends)
