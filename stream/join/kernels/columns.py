"""Samples of one call as columns, as `learner/samples/layout.py` reads them."""

import math

import numpy as np

from learner.tables.compiled import compiled_once
from learner.tables.numbers import copy, put_f8, put_u4
from stream.join.kernels.arrays import SAMPLES, VIEWS, Arrays, Options
from stream.join.kernels.words import BODY_HEAD, CORE_HEAD, ENTRY

HEAD = 13
"""Bytes of a row before the values: '<BBBBBd' kind, label, labels, known, task, delay."""


@compiled_once
def put_value(to: np.ndarray, at: int, value: float) -> int:
    """Write a double; what is no number as the script writes it, with its sign set."""
    if not math.isnan(value):
        return put_f8(to, at, value)
    for n in range(6):
        to[at + n] = 0
    to[at + 6], to[at + 7] = 248, 255
    return at + 8


@compiled_once
def measure(arrays: Arrays, options: Options, tag: int, sizes_4: np.ndarray) -> None:
    """How many samples of a layout there are, and the bytes of their texts, keys and rows."""
    num = texts = keys = rows = 0
    for e in range(arrays.sizes[SAMPLES]):
        held = arrays.held_S[arrays.samples_E[e].held]
        if held.tag != tag:
            continue
        num += 1
        texts += held.text_size
        keys += held.keys_size
        fixed = held.body_size - BODY_HEAD - CORE_HEAD - held.text_size - held.keys_size
        rows += HEAD + 8 * held.core_values + fixed
    if options.num_histories > 0 and tag == options.history_tag:
        rows += 6 * options.num_histories * num
    sizes_4[0], sizes_4[1], sizes_4[2], sizes_4[3] = num, texts, keys, rows


@compiled_once
def put_views(arrays: Arrays, to: np.ndarray, at: int, write: bool) -> int:
    """Write all views one behind the other, and remember how far each has moved; returns where they end."""
    begin = at
    for v in range(arrays.sizes[VIEWS]):
        view = arrays.views_E[v]
        size = view.end - view.begin
        if write:
            source = view.at if view.at >= 0 else arrays.histories_UH[view.user, view.history].at
            copy(to, at, arrays.histories, source + view.begin, source + view.end)
        view.moved = at - begin - view.begin
        at += size
    return at


@compiled_once
def put_columns(
    arrays: Arrays, options: Options, tag: int, to: np.ndarray, texts_at: int, keys_at: int, rows_at: int
) -> None:
    """Write texts, keys and rows of the samples of a layout, each to where they belong."""
    has_histories = options.num_histories > 0 and tag == options.history_tag
    for e in range(arrays.sizes[SAMPLES]):
        sample = arrays.samples_E[e]
        held = arrays.held_S[sample.held]
        if held.tag != tag:
            continue
        at = held.body_at + BODY_HEAD + CORE_HEAD
        end = held.body_at + held.body_size
        texts_at = copy(to, texts_at, arrays.bodies, at, at + held.text_size)
        at += held.text_size
        keys_at = copy(to, keys_at, arrays.bodies, at, at + held.keys_size)
        at += held.keys_size
        to[rows_at], to[rows_at + 1], to[rows_at + 2] = sample.kind, sample.label, sample.labels
        to[rows_at + 3], to[rows_at + 4] = sample.known, sample.task
        rows_at = put_f8(to, rows_at + 5, sample.delay)
        for a in range(held.core_values):
            known = sample.values >= 0 and a < options.num_actions
            value = arrays.sample_values_EA[sample.values, a] if known else np.nan
            rows_at = put_value(to, rows_at, value)
        rows_at = copy(to, rows_at, arrays.bodies, at, end)
        if has_histories:
            rows_at = put_places(arrays, options, e, to, rows_at)


@compiled_once
def put_places(arrays: Arrays, options: Options, e: int, to: np.ndarray, at: int) -> int:
    """Write where a sample's histories begin among all entries, and how many each has; returns where that ends."""
    for h in range(options.num_histories):
        carried = arrays.carried_EH[e, h]
        begin = 0
        if carried.shared >= 0:
            begin = (carried.begin + arrays.views_E[carried.shared].moved) // ENTRY
        at = put_u4(to, at, begin)
    for h in range(options.num_histories):
        carried = arrays.carried_EH[e, h]
        num = (carried.end - carried.begin) // ENTRY
        to[at], to[at + 1] = num & 255, num >> 8
        at += 2
    return at
