"""Records are taken: what they concern is read, the fence is asked, and each meets what is held."""

from typing import Any

import numpy as np

from state_store.records import Applied, Outcome
from stream.join.batch import Batch, batch_of
from stream.join.filling import put_items, put_users
from stream.join.kernels.arrays import ARRIVED, CLAIMS, DEAD, MOVED, OLDEST_CLAIM, TOP, WATERMARK, Records
from stream.join.kernels.matching import needs_of, take_records
from stream.join.kernels.words import ABSENT, IMPRESSION, LATE_IMPRESSION, OUTSIDE, REASONS
from stream.join.memory.clocks import Clock
from stream.join.memory.due import FEW
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Arrival, Row
from stream.join.reading import Lacking
from stream.join.work import Work

_NOBODY = np.zeros(0, np.int64)


def read(work: Work) -> tuple[Batch | None, Applied | None]:
    """Read what the records concern; returns them as columns, and what the fence says if they are not to be taken.

    Neither, if the partition is not what its fence says: something else has written.
    """
    call, partition, plan = work.call, work.partition, work.plan
    batch = None
    lacking = Lacking()
    users = items = _NOBODY
    slots = _NOBODY
    if not work.is_tick and call.records:
        work.tidy()
        batch = batch_of(call.records, call.cores, partition, is_sampled=plan.is_sampled)
        users, items, at = batch.users, batch.items, batch.slots
        slots = np.unique(at[partition.arrays.held_S["state"][at] == ABSENT])
        lacking.bodies = partition.imps.names(slots)
        if call.topic != plan.topics[0]:
            lacking.labels = lacking.bodies
    new_users = np.unique(users[partition.arrays.users_U["known"][users] == 0])
    new_items = np.unique(items[partition.arrays.items_I["known"][items] == 0])
    lacking.users, lacking.items = partition.users.names(new_users), partition.items.names(new_items)
    work.fetch_first(lacking)
    fetched = work.fetched
    if not work.is_current:
        return None, None
    if fetched.marks != partition.marks:
        partition.marks = fetched.marks
        for entities in (partition.arrays.users_U, partition.arrays.items_I):
            entities["known"] = np.minimum(entities["known"], 1)
    refused = _ask_fence(work)
    if refused is not None:
        work.give_back(slots)
        return batch, refused
    work.doubt()
    put_users(plan, partition, new_users, fetched)
    put_items(plan, partition, new_items, fetched)
    work.know(users, items, 2)
    work.mend()
    if any(body is not None for body in fetched.bodies):
        labels = fetched.labels
        if not lacking.labels:
            labels = work.fetch(Lacking(labels=lacking.bodies)).labels
        work.hold(lacking.bodies, slots, fetched.bodies, labels)
    if plan.num_histories and batch is not None:
        its_users = partition.arrays.held_S["user"][batch.slots]
        work.know(its_users[partition.arrays.held_S["state"][batch.slots] != ABSENT], _NOBODY, 1)
    return batch, None


def _ask_fence(work: Work) -> Applied | None:
    call, plan = work.call, work.plan
    stored_epoch, *offsets, sequence, _, _ = work.fetched.fence
    epoch = int(stored_epoch or 0)
    stored = dict(zip(plan.topics, offsets, strict=True))[call.topic]
    offset = int(stored) if stored is not None else -1
    outcome = None
    if call.epoch < epoch:
        outcome = Outcome.ZOMBIE
    elif offset < call.known_offset:
        outcome = Outcome.ROLLBACK
    elif not work.is_tick:
        if call.span.last <= offset:
            outcome = Outcome.DUP
        elif call.span.first <= offset:
            outcome = Outcome.OVERLAP
        elif stored is not None and call.span.first > offset + 1:
            outcome = Outcome.HOLE
    if outcome is None:
        return None
    return Applied(outcome, offset, int(sequence or 0), work.fetched.learned, False, epoch)


def take(work: Work, batch: Batch) -> None:
    """Each record meets what is held."""
    call, partition, plan = work.call, work.partition, work.plan
    clock, records = partition.clocks[call.topic], batch.records
    num = len(records.records_N)
    longest = max(plan.kept_H, default=0) + 24 * (num + len(batch.waited))
    _set_clock(work, clock)
    begin = 0
    while True:
        begin = int(take_records(partition.arrays, plan.options, records, begin, float(call.reading.now_ms), longest))
        if begin == num:
            break
        work.grow(needs_of(plan.options, records, begin, longest))
    _read_clock(work, clock)
    _give_up(work, batch)
    _wait(work, batch, records)
    _note_arrived(work)


def _set_clock(work: Work, clock: Clock) -> None:
    partition = work.partition
    users = partition.number_users(texts_of(clock.users))
    num = len(users)
    partition.grow(num, "claims")
    arrays = partition.arrays
    arrays.claims["user"][:num], arrays.claims["ts"][:num] = users, clock.times
    arrays.sizes[CLAIMS], arrays.sizes[OLDEST_CLAIM] = num, clock.oldest - 1
    arrays.times[TOP] = np.nan if clock.top is None else clock.top
    arrays.times[MOVED] = np.nan if clock.moved is None else clock.moved
    arrays.times[WATERMARK] = np.nan if partition.watermark is None else partition.watermark


def _read_clock(work: Work, clock: Clock) -> None:
    partition = work.partition
    arrays = partition.arrays
    claims = arrays.claims[: arrays.sizes[CLAIMS]]
    clock.users = partition.users.names(claims["user"])
    clock.times, clock.oldest = claims["ts"].tolist(), int(arrays.sizes[OLDEST_CLAIM]) + 1
    top, moved = arrays.times[TOP], arrays.times[MOVED]
    clock.top = None if np.isnan(top) else float(top)
    clock.moved = None if np.isnan(moved) else float(moved)


def feedback_event(plan_actions: tuple[str, ...], row: Row) -> dict[str, Any]:
    """Feedback as a dead letter says it."""
    event = {
        "type": "feedback",
        "ts": row[2],
        "imp_id": row[3],
        "user_id": row[4],
        "item_id": row[5],
        "action": plan_actions[int(row[6]) - 1],  # type: ignore[call-overload]
    }
    if len(row) > 7:
        event["value"] = row[7]
    return event


def _give_up(work: Work, batch: Batch) -> None:
    call, plan, arrays = work.call, work.plan, work.partition.arrays
    for dead in arrays.dead_N[: arrays.sizes[DEAD]].tolist():
        record, waiting, reason = dead
        row = batch.waited[waiting] if waiting >= 0 else batch.columns[record]
        if reason == LATE_IMPRESSION:
            event = {"type": "impression", "ts": row[2], "imp_id": row[3], "user_id": row[4], "item_id": row[5]}
        else:
            event = feedback_event(plan.actions, row)
        topic = plan.topics[1] if reason == OUTSIDE else call.topic
        work.dead.append((REASONS[reason], topic, int(row[1]), event))


def _wait(work: Work, batch: Batch, records: Records) -> None:
    """Feedback without an impression waits; an impression took what waited for it."""
    partition = work.partition
    for row in batch.columns.rows(np.flatnonzero(records.records_N["outcome"])):
        imp = str(row[3])
        member = b"f:" + imp.encode()
        work.waiting_changed[imp] = None
        if row[0] == IMPRESSION:
            del partition.waiting[imp]
            work.dues.set(member, None)
        else:
            waiting = partition.waiting.setdefault(imp, [])
            waiting.append(row)
            work.dues.set(member, expiry_of(waiting, work.plan.lateness))


def expiry_of(waiting: list[Row], lateness: float) -> float:
    """When the first of those that wait for an impression is given up."""
    return min(float(row[2]) for row in waiting) + lateness  # type: ignore[arg-type]


def _note_arrived(work: Work) -> None:
    """Impressions of one call are due together; a few, each by itself."""
    partition, plan = work.partition, work.plan
    arrays = partition.arrays
    slots = arrays.lists_4S[ARRIVED, : arrays.sizes[ARRIVED]].copy()
    ts = arrays.held_S["ts"][slots]
    if len(slots) <= FEW:
        for imp, at in zip(partition.imps.names(slots), ts.tolist(), strict=True):
            work.dues.set(b"i:" + imp.encode(), at + plan.deadlines[0])
        return
    if (ts[1:] < ts[:-1]).any():
        order = np.argsort(ts, kind="stable")
        slots, ts = slots[order], ts[order]
    partition.num_arrivals += 1
    number = partition.num_arrivals
    arrival = Arrival(number, partition.imps.texts(slots), ts, [[ms, 0] for ms in plan.deadlines], is_new=True)
    arrival.slots = slots
    partition.arrivals[number] = work.moved[number] = arrival
    work.dues.set(b"c:%d" % number, arrival.next_due())
