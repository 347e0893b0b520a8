"""Deadlines pass (`state_store/lua/apply/65_deadlines.lua`): the end of a task's window, or of all attribution."""

import math

import numpy as np

from learner.tables.compiled import compiled_once
from stream.join.kernels.arrays import SAMPLE_VALUES, SAMPLES, Arrays, Options
from stream.join.kernels.samples import (
    NONE,
    count,
    delay_of,
    emit_base,
    emit_correction,
    emit_settled,
    is_out,
    most_samples,
    settle_all,
    touch,
)
from stream.join.kernels.words import (
    DROPPED,
    DROPPEDS,
    EMITTED_NEGATIVE,
    GONE,
    HELD,
    PRESENT,
    UNSAMPLED,
)


@compiled_once
def close_base(arrays: Arrays, options: Options, s: int) -> None:
    """The main task's window has closed."""
    held = arrays.held_S[s]
    delay = delay_of(arrays, s, options.main)
    has_come = not math.isnan(delay)
    if has_come and (delay <= options.window or held.phase == UNSAMPLED):
        emit_base(arrays, options, s, 1, delay, False)
    elif held.phase == UNSAMPLED:
        count(arrays, DROPPEDS, 1)
        held.phase, held.passed = DROPPED, options.window
        touch(arrays, s)
    else:
        emit_base(arrays, options, s, 0, NONE, False)
        if has_come:
            emit_correction(arrays, options, s, delay)


@compiled_once
def pass_deadline(arrays: Arrays, options: Options, s: int, passed: float) -> None:
    """An impression has come to a deadline. Nothing is said twice."""
    held = arrays.held_S[s]
    if passed >= options.window and held.phase in (HELD, UNSAMPLED):
        close_base(arrays, options, s)
    if options.settle > 0 and passed >= options.settle and held.phase == EMITTED_NEGATIVE:
        emit_settled(arrays, options, s)
    if options.num_tasks > 1:
        if is_out(held.phase):
            settle_all(arrays, options, s, passed)
        if held.phase == DROPPED:
            held.passed = passed
            touch(arrays, s)
    if passed >= options.attribution:
        held.state = GONE
        touch(arrays, s)


@compiled_once
def comes_first(due: float, deadline: float, order: float, due_2: float, deadline_2: float, order_2: float) -> bool:
    """Which of two is handled first: by when they are due; at once by the later deadline, then as they came."""
    if due != due_2:
        return due < due_2
    if deadline != deadline_2:
        return deadline > deadline_2
    return order < order_2


@compiled_once
def pass_deadlines(
    arrays: Arrays,
    options: Options,
    at_R: np.ndarray,
    end_R: np.ndarray,
    deadline_R: np.ndarray,
    order_R: np.ndarray,
    due_D: np.ndarray,
    held_D: np.ndarray,
    most: int,
) -> int:
    """Handle what is due, run by run, each in order of time; returns how many were.

    Fewer than `most` where all are done, or where there is no room for more samples.

    Args:
        at_R: of each run the next of those below; moves on.
        end_R: where it ends.
        deadline_R: ms after the impression.
        order_R: how runs came.
        due_D: event time at which each is due.
        held_D: which impression.
    """
    num_samples = most_samples(options.num_tasks)
    done = 0
    while done < most:
        best = -1
        for r in range(len(at_R)):
            if at_R[r] < end_R[r] and (
                best < 0
                or comes_first(
                    due_D[at_R[r]], deadline_R[r], order_R[r], due_D[at_R[best]], deadline_R[best], order_R[best]
                )
            ):
                best = r
        room = len(arrays.samples_E) - arrays.sizes[SAMPLES]
        value_room = len(arrays.sample_values_EA) - arrays.sizes[SAMPLE_VALUES]
        if best < 0 or room < num_samples or value_room < num_samples:
            return done
        s = held_D[at_R[best]]
        if arrays.held_S[s].state == PRESENT:
            pass_deadline(arrays, options, s, deadline_R[best])
        at_R[best] += 1
        done += 1
    return done
