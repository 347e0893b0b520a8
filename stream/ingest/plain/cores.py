"""What samples carry of an impression, as `learner.samples.layout.Layout.pack_core` has it."""

import numpy as np

from learner.samples.layout import CORE_HEAD
from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy, put_f8, put_u4, put_u8
from stream.ingest.plain.declared import (
    ARM,
    CANARY,
    DOMAIN,
    IMP,
    ITEM,
    OTHER,
    POSITION,
    PROBABILITY,
    PROPENSITY,
    STAGE,
    USER,
    VERSION,
    Declared,
    Scratch,
)
from stream.ingest.plain.features import key_of, put_lists, put_values
from stream.ingest.plain.tokens import SMALL_T, number_of, whole_of

HEAD = CORE_HEAD.size
_SHORT, _BYTE = 32, 256
_NIL = 0xC0
_NO_SEED = np.uint64(0)


@compiled_once
def _put_text(text: np.ndarray, parts_K2: np.ndarray, part: int, to: np.ndarray, at: int) -> int:
    """Write a text as msgpack does; returns where it ends."""
    begin, end = parts_K2[part, 0], parts_K2[part, 1]
    if begin < 0:
        to[at] = _NIL
        return at + 1
    size = end - begin
    if size < _SHORT:
        to[at] = 0xA0 | size
        return copy(to, at + 1, text, begin, end)
    if size < _BYTE:
        to[at], to[at + 1] = 0xD9, size
        return copy(to, at + 2, text, begin, end)
    to[at], to[at + 1], to[at + 2] = 0xDA, size >> 8, size & 255
    return copy(to, at + 3, text, begin, end)


@compiled_once
def _put_whole(text: np.ndarray, parts_K2: np.ndarray, part: int, to: np.ndarray, at: int, least: int) -> None:
    """A whole number of four bytes, or of eight where `least` is 0."""
    if parts_K2[part, 0] < 0:
        return
    found = whole_of(text, parts_K2[part, 0], parts_K2[part, 1])
    if least:
        put_u4(to, at, found)
    else:
        put_u8(to, at, found)


@compiled_once
def _put_number(text: np.ndarray, parts_K2: np.ndarray, part: int, to: np.ndarray, at: int) -> None:
    if parts_K2[part, 0] >= 0:
        put_f8(to, at, number_of(text, parts_K2[part, 0], parts_K2[part, 1]))


@compiled_once
def _put_shown(text: np.ndarray, declared: Declared, scratch: Scratch, to: np.ndarray, fixed_at: int) -> None:
    """How it was shown."""
    places, parts_K2, served_K2 = declared.shown_places, scratch.parts_K2, scratch.served_K2
    _put_whole(text, parts_K2, POSITION, to, fixed_at + places[0], 1)
    _put_number(text, parts_K2, PROPENSITY, to, fixed_at + places[1])
    if served_K2[PROBABILITY, 0] < 0:
        return
    _put_number(text, served_K2, PROBABILITY, to, fixed_at + places[2])
    put_u8(to, fixed_at + places[3], 0)
    _put_whole(text, served_K2, VERSION, to, fixed_at + places[3], 0)
    arm, arm_end = served_K2[ARM, 0], served_K2[ARM, 1]
    if arm_end > arm:
        put_u8(to, fixed_at + places[4], key_of(text, arm, arm_end, _NO_SEED))
    canary = served_K2[CANARY, 0]
    to[fixed_at + places[5]] = 1 if canary >= 0 and text[canary] == SMALL_T else 0
    _put_number(text, served_K2, OTHER, to, fixed_at + places[6])


@compiled_once
def put_core(
    text: np.ndarray, declared: Declared, scratch: Scratch, ts: int, produced: int, to: np.ndarray, begin: int
) -> int:
    """Write what samples carry of the impression that scratch knows; returns where it ends."""
    parts_K2 = scratch.parts_K2
    texts_at = begin + HEAD
    at = texts_at
    for part in (IMP, USER, ITEM, DOMAIN, STAGE):
        at = _put_text(text, parts_K2, part, to, at)
    keys_at = at
    fixed_at = put_lists(text, declared, scratch, to, at)
    put_u4(to, begin, declared.tag)
    put_u4(to, begin + 4, keys_at - texts_at)
    put_u4(to, begin + 8, fixed_at - keys_at)
    to[begin + 12] = declared.num_actions
    end = copy(to, fixed_at, declared.template, 0, len(declared.template))
    put_u8(to, fixed_at, ts)
    put_u8(to, fixed_at + 8, produced)
    put_u8(to, fixed_at + 16, key_of(text, parts_K2[IMP, 0], parts_K2[IMP, 1], _NO_SEED))
    for n, part in enumerate((USER, ITEM)):
        key = key_of(text, parts_K2[part, 0], parts_K2[part, 1], declared.id_seeds[n])
        put_u8(to, fixed_at + declared.id_places[n], key)
    _put_shown(text, declared, scratch, to, fixed_at)
    put_values(text, declared, scratch, to, fixed_at)
    return end
