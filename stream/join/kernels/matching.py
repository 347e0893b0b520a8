"""Records meet what is held (`state_store/lua/apply/60_join.lua`).

All is decided by event time alone, and by the order of a topic partition: neither batching nor the other topic decides.
"""

import math
from typing import Any

from learner.tables.compiled import compiled_once
from stream.join.kernels.arrays import (
    BODIES_END,
    DEAD,
    FIRST_TS,
    HISTORIES_END,
    LAST_TS,
    MASK,
    SAMPLE_VALUES,
    SAMPLES,
    TASK_ATTRIBUTION,
    TOP,
    VALUES,
    WATERMARK,
    Arrays,
    Options,
    Records,
)
from stream.join.kernels.event_time import in_time, move_time
from stream.join.kernels.histories import remember
from stream.join.kernels.holding import count_item, hold, set_user
from stream.join.kernels.samples import (
    NONE,
    count,
    emit_bare,
    emit_base,
    emit_correction,
    is_out,
    most_samples,
    rank,
    settle,
    settle_all,
    touch,
)
from stream.join.kernels.words import (
    ABSENT,
    ACCEPTED,
    DROPPED,
    DROPPEDS,
    DUPLICATE_FEEDBACKS,
    DUPLICATE_IMPRESSIONS,
    EMITTED_NEGATIVE,
    EMITTED_SETTLED,
    ENTRY,
    FEEDBACK,
    FEEDBACKS,
    HEARTBEAT,
    HEARTBEATS,
    HELD,
    IMPRESSION,
    IMPRESSIONS,
    LATE_FEEDBACK,
    LATE_IMPRESSION,
    LATES,
    MALFORMEDS,
    MATCHED,
    ORPHANS,
    OUTSIDE,
    PRESENT,
    REROUTED,
    REROUTEDS,
    SHOWN,
    SHOWNS,
    UNSAMPLED,
)


@compiled_once
def give_up(arrays: Arrays, record: int, waiting: int, reason: int) -> None:
    """Note an event that the join gives up."""
    n = arrays.sizes[DEAD]
    arrays.sizes[DEAD] = n + 1
    dead = arrays.dead_N[n]
    dead.record, dead.waiting, dead.reason = record, waiting, reason


@compiled_once
def on_impression(arrays: Arrays, options: Options, records: Records, n: int, now: float) -> None:
    """An impression comes."""
    record = records.records_N[n]
    ts, s, user = record.ts, record.held, record.user
    count(arrays, IMPRESSIONS, 1)
    watermark = arrays.times[WATERMARK]
    # What the wall clock has brought to its end is forgotten, and could not be told from a retry.
    is_forgotten = not math.isnan(watermark) and ts + options.attribution < watermark
    if not in_time(arrays, options, user, ts, now) or is_forgotten:
        count(arrays, LATES, 1)
        give_up(arrays, n, -1, LATE_IMPRESSION)
        return
    if arrays.held_S[s].state != ABSENT:
        count(arrays, DUPLICATE_IMPRESSIONS, 1)
        return
    rate, is_chosen = 1.0, True
    if options.negative_rate != 1 and arrays.user_values_UX[user, 0] >= options.negative_rate_from:
        rate, is_chosen = options.negative_rate, record.chance < options.negative_rate
    hold(arrays, options, records, n, rate, is_chosen)
    if options.is_immediate:
        if is_chosen:
            emit_base(arrays, options, s, 0, NONE, False)
        else:
            count(arrays, DROPPEDS, 1)
            arrays.held_S[s].phase, arrays.held_S[s].passed = DROPPED, -options.lateness
    elif options.as_served:
        emit_bare(arrays, options, s, SHOWN)
        count(arrays, SHOWNS, 1)
    num_counts = 1 + options.num_actions
    set_user(arrays, user, 0, arrays.user_values_UX[user, 0] + 1)
    count_item(arrays, record.item, 0)
    first = arrays.user_values_UX[user, num_counts + FIRST_TS]
    if first == 0 or ts < first:
        set_user(arrays, user, num_counts + FIRST_TS, ts)
    if ts > arrays.user_values_UX[user, num_counts + LAST_TS]:
        set_user(arrays, user, num_counts + LAST_TS, ts)
    count(arrays, ACCEPTED, 1)
    for w in range(record.waiting_at, record.waiting_end):
        record.outcome = 1
        match(arrays, options, s, records.waiting_W[w], -1, w)


@compiled_once
def note_value(arrays: Arrays, s: int, action: int, delay: float, value: float) -> None:
    """Remember a value that came."""
    at = arrays.sizes[VALUES]
    arrays.sizes[VALUES] = at + 1
    new, held = arrays.values_V[at], arrays.held_S[s]
    new.action, new.delay, new.value, new.next = action, delay, value, -1
    if held.first_value < 0:
        held.first_value = at
    else:
        arrays.values_V[held.last_value].next = at
    held.last_value = at
    held.num_values += 1


@compiled_once
def note_positive(arrays: Arrays, options: Options, s: int, t: int, ts: float) -> None:
    """A positive of a task has come."""
    before, shown = arrays.held_S[s].first[t], arrays.held_S[s].ts
    if before == 0:
        arrays.held_S[s].first[t] = ts
        return
    new, old = rank(options, t, ts - shown), rank(options, t, before - shown)
    if new < old or (new == 1 and old == 1 and ts < before):
        arrays.held_S[s].first[t] = ts


@compiled_once
def match_main(arrays: Arrays, options: Options, s: int, delay: float) -> None:
    """A positive of the main task. Event time alone decides whether it makes a positive sample or a correction."""
    held = arrays.held_S[s]
    phase = held.phase
    if phase in (EMITTED_NEGATIVE, EMITTED_SETTLED):
        emit_correction(arrays, options, s, delay)
    elif phase == DROPPED:
        # There is no negative to correct.
        count(arrays, DROPPEDS, -1)
        emit_base(arrays, options, s, 1, delay, False)
        settle_all(arrays, options, s, held.passed)
    elif (phase in (HELD, UNSAMPLED)) and delay <= options.window and options.early_positives:
        emit_base(arrays, options, s, 1, delay, True)
        settle_all(arrays, options, s, -options.lateness)


@compiled_once
def match(arrays: Arrays, options: Options, s: int, feedback: Any, record: int, waiting: int) -> None:
    """Feedback meets its impression.

    Args:
        s: the impression.
        feedback: a `RECORD_DTYPE`.
        record: which of the call's records it is; -1: none of them.
        waiting: which of those that waited; -1: none of them.
    """
    held, ts = arrays.held_S[s], feedback.ts
    delay, mask = ts - held.ts, 1 << feedback.what
    if delay > options.attribution or delay < -options.lateness:
        count(arrays, ORPHANS, 1)
        give_up(arrays, record, waiting, OUTSIDE)
        return
    if held.bits & mask:
        count(arrays, DUPLICATE_FEEDBACKS, 1)
        return
    held.bits |= mask
    touch(arrays, s)
    user, counter = feedback.user, feedback.what + 1
    set_user(arrays, user, counter, arrays.user_values_UX[user, counter] + 1)
    if options.num_histories > 0:
        remember(arrays, options, s, user, mask, max(ts, held.ts))
    count_item(arrays, feedback.item, counter)
    count(arrays, MATCHED, 1)
    # Without a value it is kept only where another action of the same task could be taken for the one that decided.
    if not math.isnan(feedback.value) or mask & options.rival_mask:
        note_value(arrays, s, feedback.what, delay, feedback.value)
    of_main = False
    for t in range(options.num_tasks):
        if mask & options.tasks_T3[t, MASK] and delay <= options.tasks_T3[t, TASK_ATTRIBUTION]:
            note_positive(arrays, options, s, t, ts)
            if t == options.main:
                of_main = True
            elif is_out(held.phase):
                settle(arrays, options, s, t, False)
    if of_main:
        match_main(arrays, options, s, delay)


@compiled_once
def on_feedback(arrays: Arrays, options: Options, records: Records, n: int, now: float) -> None:
    """Feedback comes."""
    record = records.records_N[n]
    ts, s, user = record.ts, record.held, record.user
    count(arrays, FEEDBACKS, 1)
    if not in_time(arrays, options, user, ts, now):
        count(arrays, LATES, 1)
        give_up(arrays, n, -1, LATE_FEEDBACK)
    elif arrays.held_S[s].state == PRESENT:
        match(arrays, options, s, record, n, -1)
    else:
        record.outcome = 1


@compiled_once
def needs_of(options: Options, records: Records, n: int, longest: int) -> tuple[int, int, int, int]:
    """What a record needs room for, at most: feedback that matches, samples, bytes of bodies, bytes of histories."""
    record = records.records_N[n]
    num_matches = 1 + record.waiting_end - record.waiting_at
    core_size = record.what if record.kind == IMPRESSION else 0
    return (
        num_matches,
        num_matches * most_samples(options.num_tasks),
        core_size + 128 + 8 * options.num_actions,
        num_matches * options.num_histories * (3 * longest + 8 * ENTRY),
    )


@compiled_once
def has_room(arrays: Arrays, options: Options, records: Records, n: int, longest: int) -> bool:
    """Whether all that a record can bring has room."""
    num_matches, num_samples, body, histories = needs_of(options, records, n, longest)
    sizes = arrays.sizes
    return bool(
        sizes[SAMPLES] + num_samples <= len(arrays.samples_E)
        and sizes[SAMPLE_VALUES] + num_samples <= len(arrays.sample_values_EA)
        and sizes[VALUES] + num_matches <= len(arrays.values_V)
        and sizes[DEAD] + num_matches <= len(arrays.dead_N)
        and sizes[BODIES_END] + body <= len(arrays.bodies)
        and sizes[HISTORIES_END] + histories <= len(arrays.histories)
    )


@compiled_once
def take_records(arrays: Arrays, options: Options, records: Records, begin: int, now: float, longest: int) -> int:
    """Take records in order; returns how many were taken: all, or those before the first for which there is no room.

    Args:
        begin: the first that has not been taken yet.
        now: wall clock, ms.
        longest: bytes of a history at most, within this call.
    """
    for n in range(begin, len(records.records_N)):
        if not has_room(arrays, options, records, n, longest):
            return n
        kind, ts = records.records_N[n].kind, records.records_N[n].ts
        if kind == IMPRESSION:
            on_impression(arrays, options, records, n, now)
        elif kind == FEEDBACK:
            on_feedback(arrays, options, records, n, now)
        elif kind == HEARTBEAT:
            count(arrays, HEARTBEATS, 1)
            top = arrays.times[TOP]
            if math.isnan(top) or ts > top:
                move_time(arrays, ts, now)
        else:
            count(arrays, REROUTEDS if kind == REROUTED else MALFORMEDS, 1)
    return len(records.records_N)
