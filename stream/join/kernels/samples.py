"""Samples that leave (`state_store/lua/apply/50_samples.lua`): which, in which order, and what is said in each."""

import math
from typing import NamedTuple

import numpy as np

from learner.tables.compiled import compiled_once
from stream.join.kernels.arrays import MASK, SAMPLE_VALUES, SAMPLES, TASK_WINDOW, TOUCHED, Arrays, Options
from stream.join.kernels.histories import carry
from stream.join.kernels.words import (
    CORRECTED,
    CORRECTION,
    CORRECTIONS,
    EMITTED_NEGATIVE,
    EMITTED_POSITIVE,
    EMITTED_SETTLED,
    FALSE,
    NEGATIVE,
    NEGATIVES,
    NUM_COUNTED,
    NUM_OF_TASK,
    OF_CORRECTION,
    OF_LATE_NEGATIVE,
    OF_LATE_POSITIVE,
    OF_NEGATIVE,
    OF_POSITIVE,
    OF_UNKNOWN,
    POSITIVE,
    POSITIVES,
    SETTLED,
    SETTLEDS,
    TASK_CORRECTION,
    TASK_CORRECTIONS,
    TRUE,
    UNKNOWN,
)

NONE = -1.0
"""Delay of a positive that is not there."""


class Said(NamedTuple):
    """What a sample says."""

    kind: int
    label: int
    delay: float
    labels: int
    """Of all tasks, a bit each."""
    known: int
    """Which of them are known."""
    task: int
    values: int
    """Row of the values; -1: none."""


@compiled_once
def most_samples(num_tasks: int) -> int:
    """How many samples one impression can bring at once, at most."""
    return 4 + 3 * num_tasks


@compiled_once
def count(arrays: Arrays, what: int, n: int) -> None:
    """Count, and remember that it was counted."""
    arrays.counts_2[0, what] += n
    arrays.counts_2[1, what] = 1


@compiled_once
def count_task(arrays: Arrays, what: int, t: int) -> None:
    """Count for a task."""
    count(arrays, NUM_COUNTED + NUM_OF_TASK * t + what, 1)


@compiled_once
def note(arrays: Arrays, which: int, n: int) -> None:
    """Put a number behind a list (`Arrays.lists_4S`)."""
    arrays.lists_4S[which, arrays.sizes[which]] = n
    arrays.sizes[which] += 1


@compiled_once
def touch(arrays: Arrays, s: int) -> None:
    """Something of an impression is to be written."""
    held = arrays.held_S[s]
    if held.is_touched:
        return
    held.is_touched = 1
    note(arrays, TOUCHED, s)


@compiled_once
def delay_of(arrays: Arrays, s: int, t: int) -> float:
    """Delay of the positive that decides a task; NaN if there is none (a clock may be behind: it can be negative)."""
    first = arrays.held_S[s].first[t]
    return first - arrays.held_S[s].ts if first != 0 else np.nan


@compiled_once
def rank(options: Options, t: int, delay: float) -> int:
    """Which of a task's positives decides: the base sample's, then those of its own window, then all others."""
    limit = options.tasks_T3[t, TASK_WINDOW]
    if delay <= min(limit, options.window):
        return 1
    return 2 if delay <= limit else 3


@compiled_once
def new_values(arrays: Arrays, options: Options) -> int:
    """A row of values, none of them known."""
    row: int = arrays.sizes[SAMPLE_VALUES]
    arrays.sizes[SAMPLE_VALUES] = row + 1
    for a in range(options.num_actions):
        arrays.sample_values_EA[row, a] = np.nan
    return row


@compiled_once
def values_within(arrays: Arrays, options: Options, s: int, limit: float) -> int:
    """Values of all that came within a delay; -1 if there are none."""
    at, row = arrays.held_S[s].first_value, -1
    while at >= 0:
        one = arrays.values_V[at]
        if one.delay <= limit and not math.isnan(one.value):
            if row < 0:
                row = new_values(arrays, options)
            arrays.sample_values_EA[row, one.action] = one.value
        at = one.next
    return row


@compiled_once
def deciding_value(arrays: Arrays, options: Options, s: int, t: int, delay: float) -> int:
    """Value of the positive that decides a task: the first that came with its delay; -1 if it has none."""
    at = arrays.held_S[s].first_value
    while at >= 0:
        one = arrays.values_V[at]
        if one.delay == delay and (1 << one.action) & options.tasks_T3[t, MASK]:
            if math.isnan(one.value):
                return -1
            row = new_values(arrays, options)
            arrays.sample_values_EA[row, one.action] = one.value
            return row
        at = one.next
    return -1


@compiled_once
def emit(arrays: Arrays, options: Options, s: int, said: Said) -> None:
    """A sample leaves."""
    n = arrays.sizes[SAMPLES]
    arrays.sizes[SAMPLES] = n + 1
    sample, held = arrays.samples_E[n], arrays.held_S[s]
    says_all = options.num_tasks > 1 or said.values >= 0
    sample.held, sample.kind, sample.label, sample.delay = s, said.kind, said.label, said.delay
    sample.labels, sample.known = said.labels if says_all else 0, said.known if says_all else 0
    sample.task, sample.values = said.task, said.values
    if options.num_histories > 0 and held.tag == options.history_tag:
        carry(arrays, options, s, n)


@compiled_once
def emit_bare(arrays: Arrays, options: Options, s: int, kind: int) -> None:
    """A sample leaves that says nothing but its kind."""
    emit(arrays, options, s, Said(kind, 0, NONE, 0, 0, options.main, -1))


@compiled_once
def emit_base(arrays: Arrays, options: Options, s: int, label: int, delay: float, is_early: bool) -> None:
    """The base sample: label of the main task, and of the others what can be known by now, by event time alone."""
    labels = known = 0
    for t in range(options.num_tasks):
        is_true, is_known = False, False
        if t == options.main:
            is_true, is_known = label == 1, True
        elif options.is_immediate:
            is_known = True
        elif not is_early:
            d = delay_of(arrays, s, t)
            is_true = not math.isnan(d) and rank(options, t, d) == 1
            is_known = is_true or options.tasks_T3[t, TASK_WINDOW] <= options.window
        if is_true:
            labels += 1 << t
        if is_known:
            known += 1 << t
        if options.num_tasks > 1:
            arrays.held_S[s].told[t] = TRUE if is_true else FALSE if is_known else UNKNOWN
        count_task(arrays, OF_POSITIVE if is_true else OF_NEGATIVE if is_known else OF_UNKNOWN, t)
    arrays.held_S[s].phase = EMITTED_POSITIVE if label == 1 else EMITTED_NEGATIVE
    touch(arrays, s)
    count(arrays, POSITIVES if label == 1 else NEGATIVES, 1)
    values = values_within(arrays, options, s, options.window)
    kind = POSITIVE if label == 1 else NEGATIVE
    emit(arrays, options, s, Said(kind, label, delay, labels, known, options.main, values))


@compiled_once
def emit_label(arrays: Arrays, options: Options, kind: int, s: int, t: int, label: int, delay: float) -> None:
    """The label of one task, after the base sample, with what is known of values."""
    bit = 1 << t
    if label == 1:
        values = deciding_value(arrays, options, s, t, delay)
    else:
        values = values_within(arrays, options, s, float(options.tasks_T3[t, TASK_WINDOW]))
    emit(arrays, options, s, Said(kind, label, delay, label * bit, bit, t, values))
    is_taken_back = t == options.main or arrays.held_S[s].told[t] == FALSE
    count_task(arrays, OF_LATE_NEGATIVE if label == 0 else OF_CORRECTION if is_taken_back else OF_LATE_POSITIVE, t)
    if options.num_tasks > 1:
        arrays.held_S[s].told[t] = TRUE if label == 1 else FALSE
    touch(arrays, s)


@compiled_once
def emit_settled(arrays: Arrays, options: Options, s: int) -> None:
    """Nothing came for a negative in time. If something did come since, that is said behind it."""
    emit_bare(arrays, options, s, SETTLED)
    arrays.held_S[s].phase = EMITTED_SETTLED
    touch(arrays, s)
    count(arrays, SETTLEDS, 1)


@compiled_once
def emit_correction(arrays: Arrays, options: Options, s: int, delay: float) -> None:
    """A negative has turned."""
    held = arrays.held_S[s]
    if options.settle > 0 and delay > options.settle and held.phase == EMITTED_NEGATIVE:
        emit_settled(arrays, options, s)
    if options.num_tasks > 1:
        arrays.held_S[s].told[options.main] = FALSE
    emit_label(arrays, options, CORRECTION, s, options.main, 1, delay)
    held.phase = CORRECTED
    count(arrays, CORRECTIONS, 1)


@compiled_once
def is_out(phase: int) -> bool:
    """Whether the base sample has left."""
    return phase in (EMITTED_NEGATIVE, EMITTED_POSITIVE, CORRECTED, EMITTED_SETTLED)


@compiled_once
def settle(arrays: Arrays, options: Options, s: int, t: int, is_closed: bool) -> None:
    """Tell what has become known of another task since the base sample left."""
    if arrays.held_S[s].told[t] == TRUE:
        return
    delay = delay_of(arrays, s, t)
    has_come = not math.isnan(delay)
    in_window = has_come and delay <= options.tasks_T3[t, TASK_WINDOW]
    if arrays.held_S[s].told[t] == UNKNOWN and is_closed and not in_window:
        emit_label(arrays, options, TASK_CORRECTION, s, t, 0, NONE)
        count(arrays, TASK_CORRECTIONS, 1)
    if in_window or (has_come and arrays.held_S[s].told[t] == FALSE):
        emit_label(arrays, options, TASK_CORRECTION, s, t, 1, delay)
        count(arrays, TASK_CORRECTIONS, 1)


@compiled_once
def settle_all(arrays: Arrays, options: Options, s: int, passed: float) -> None:
    """The same for all others, `passed` ms of event time after the impression."""
    for t in range(options.num_tasks):
        if t != options.main:
            settle(arrays, options, s, t, options.tasks_T3[t, TASK_WINDOW] <= passed)
