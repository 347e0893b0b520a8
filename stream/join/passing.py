"""What is due by the watermark is handled: samples leave, impressions are held no longer, feedback waits no longer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.join.filling import put_bare
from stream.join.kernels.deadlines import pass_deadlines
from stream.join.kernels.samples import count
from stream.join.kernels.words import EMITTED_NEGATIVE, HELD, NO_IMPRESSION, ORPHANS, PRESENT, UNSAMPLED
from stream.join.memory.due import MOST_MEMBERS
from stream.join.memory.ids import Texts, texts_of
from stream.join.memory.partition import Arrival
from stream.join.reading import Lacking
from stream.join.taking import expiry_of, feedback_event
from stream.join.work import Work


class Run(NamedTuple):
    """Impressions of an arrival that have come to one deadline, in the order of their time; or one by itself."""

    slots: Sequence[int]
    dues: Sequence[float]
    deadline: float
    order: int
    arrival: Arrival | None
    nth: int
    """Of the deadlines."""
    member: bytes


def pass_due(work: Work) -> bool:
    """Handle what is due, up to the limit; returns whether more is."""
    watermark, dues = work.partition.watermark, work.dues
    if watermark is None:
        return False
    dues.watermark = watermark
    left = work.plan.release_limit
    while True:
        dues.is_due_again = False
        left -= max(1, _handle(work, watermark, left))
        if left <= 0 or not dues.is_due_again:
            return dues.is_due_again or dues.is_cut


def _handle(work: Work, watermark: float, most: int) -> int:
    """Some members at a time, and nothing behind the first of those that are not among them."""
    dues = work.dues
    ready, bound = dues.first(watermark), watermark
    if len(ready) > MOST_MEMBERS:
        bound, dues.is_due_again = ready.pop()[0], True
    numbers, singles, expiring = list[int](), list[tuple[str, float]](), list[str]()
    for at, member in ready:
        kind, name = member[:1], member[2:].decode()
        if kind == b"c":
            numbers.append(int(name))
        elif kind == b"i":
            singles.append((name, at))
        else:
            expiring.append(name)
    for imp in expiring:
        _expire(work, imp, watermark)
    if not numbers and not singles:
        return len(expiring)
    arrivals = _arrivals(work, numbers)
    runs = _runs_of(work, arrivals, watermark, bound, most)
    runs += _single_runs(work, singles, watermark, bound)
    return len(expiring) + _pass(work, runs, arrivals, most)


def _expire(work: Work, imp: str, watermark: float) -> None:
    """Feedback whose impression has not come is given up."""
    plan, partition = work.plan, work.partition
    waiting = partition.waiting.pop(imp, [])
    rest = [row for row in waiting if not float(row[2]) + plan.lateness < watermark]  # type: ignore[arg-type]
    for row in waiting:
        if row not in rest:
            count(partition.arrays, ORPHANS, 1)
            event = feedback_event(plan.actions, row)
            work.dead.append((NO_IMPRESSION, plan.topics[1], int(row[1]), event))  # type: ignore[call-overload]
    if rest:
        partition.waiting[imp] = rest
    work.waiting_changed[imp] = None
    work.dues.set(b"f:" + imp.encode(), expiry_of(rest, plan.lateness) if rest else None)


def _arrivals(work: Work, numbers: Sequence[int]) -> list[Arrival]:
    """Arrivals by number; those that another worker made are read."""
    known = work.partition.arrivals
    lacking = [number for number in numbers if number not in known]
    if lacking:
        fields = [name for number in lacking for name in (str(number), f"{number}p")]
        found = work.fetch(Lacking(arrivals=fields)).arrivals
        for number, data, passed in zip(lacking, found[0::2], found[1::2], strict=True):
            if data is None or passed is None:
                # Redis has lost it (an eviction): its impressions stay what they are, and are due no more.
                work.dues.set(b"c:%d" % number, None)
            else:
                known[number] = work.reader.arrival_of(number, data, passed)
    return [known[number] for number in numbers if number in known]


def _runs_of(work: Work, arrivals: Sequence[Arrival], watermark: float, bound: float, most: int) -> list[Run]:
    """What of arrivals is due before the watermark, and not behind `bound`."""
    cut = list[tuple[Arrival, int, int, int]]()
    for arrival in arrivals:
        for k, (deadline, passed) in enumerate(arrival.passed):
            begin, ts = int(passed), arrival.ts
            if begin == len(ts):
                continue
            before, not_behind = (
                np.searchsorted(ts, watermark - deadline),
                np.searchsorted(ts, bound - deadline, "right"),
            )
            end = min(int(before), int(not_behind), begin + most)
            if end > begin:
                cut.append((arrival, k, begin, end))
    _look_for(work, [one for one in cut if one[0].slots is None])
    runs = []
    for arrival, k, begin, end in cut:
        deadline = arrival.passed[k][0]
        if arrival.slots is not None:
            slots: Sequence[int] = arrival.slots[begin:end].tolist()
        else:
            ids = Texts(arrival.ids.text, arrival.ids.spans_K2[begin:end])
            slots = work.partition.imps.find(ids).tolist()
        dues = (arrival.ts[begin:end] + deadline).tolist()
        runs.append(Run(slots, dues, deadline, arrival.number, arrival, k, b""))
    return runs


def _may_emit(said: bytes | None, deadline: float, work: Work) -> bool:
    """Whether samples may leave at a deadline, by what is known of the labels: then the body is needed."""
    plan = work.plan
    if said is None or plan.num_tasks > 1:
        return True
    phase = said[1] % 8
    if phase in (HELD, UNSAMPLED):
        return True
    return phase == EMITTED_NEGATIVE and plan.settle > 0 and deadline >= plan.settle


def _look_for(work: Work, cut: Sequence[tuple[Arrival, int, int, int]]) -> None:
    """Read impressions of arrivals that another worker made; of those that only end, the labels alone."""
    partition = work.partition
    last: dict[str, list[float]] = {}
    for arrival, k, begin, end in cut:
        ids = arrival.ids.several(begin, end)
        for imp, slot in zip(ids, partition.imps.find(texts_of(ids)).tolist(), strict=True):
            if slot < 0:
                last.setdefault(imp, []).append(arrival.passed[k][0])
    if not last:
        return
    ids = list(last)
    labels = dict(zip(ids, work.fetch(Lacking(labels=ids)).labels, strict=True))
    with_body = [imp for imp in ids if any(_may_emit(labels[imp], deadline, work) for deadline in last[imp])]
    _hold(work, with_body, [labels[imp] for imp in with_body])
    known = partition.imps.find(texts_of(ids)).tolist()
    bare = [imp for imp, slot in zip(ids, known, strict=True) if slot < 0]
    slots = partition.number_imps(texts_of(bare)).tolist()
    for imp, slot in zip(bare, slots, strict=True):
        if (said := labels[imp]) is not None:
            put_bare(work.plan, partition, slot, imp, said)
    work.borrowed += slots


def _hold(work: Work, ids: Sequence[str], labels: list[bytes | None]) -> None:
    if not ids:
        return
    slots = work.partition.number_imps(texts_of(ids))
    work.hold(ids, slots, work.fetch(Lacking(bodies=list(ids))).bodies, labels)
    work.borrowed += slots.tolist()


def _single_runs(work: Work, singles: Sequence[tuple[str, float]], watermark: float, bound: float) -> list[Run]:
    """Impressions that are due each by itself: a run for each deadline that one has come to; before arrivals."""
    partition, plan = work.partition, work.plan
    ids = texts_of([imp for imp, _ in singles])
    known = partition.imps.find(ids).tolist()
    lacking = [imp for (imp, _), slot in zip(singles, known, strict=True) if slot < 0]
    if lacking:
        _hold(work, lacking, work.fetch(Lacking(labels=lacking)).labels)
    runs = []
    slots = partition.imps.find(ids).tolist()
    for n, (slot, (imp, due_since)) in enumerate(zip(slots, singles, strict=True), start=1):
        member = b"i:" + imp.encode()
        held = partition.arrays.held_S[slot]
        next_due = None
        if held["state"] == PRESENT:
            for k, deadline in enumerate(plan.deadlines):
                when = float(held["ts"]) + deadline
                if when < due_since and deadline != plan.attribution:
                    continue
                if when >= watermark or when > bound:
                    next_due = next_due or when
                else:
                    runs.append(Run([slot], [when], deadline, n - MOST_MEMBERS - 1, None, k, member))
        work.dues.set(member, next_due)
    return runs


def _pass(work: Work, runs: Sequence[Run], arrivals: Sequence[Arrival], most: int) -> int:
    partition = work.partition
    sizes = [len(run.slots) for run in runs]
    ends = np.cumsum(sizes, dtype=np.int64)
    at_R = ends - sizes
    begin_R = at_R.copy()
    due_D = np.array([due for run in runs for due in run.dues])
    held_D = np.array([slot for run in runs for slot in run.slots], np.int64)
    deadline_R, order_R = np.array([run.deadline for run in runs]), np.array([float(run.order) for run in runs])
    done = 0
    while runs:
        done += int(
            pass_deadlines(
                partition.arrays, work.plan.options, at_R, ends, deadline_R, order_R, due_D, held_D, most - done
            )
        )
        if done >= most or (at_R == ends).all():
            break
        # Whoever has come to a deadline needs room for all that it can bring, or nothing would go on.
        work.grow_samples(most - done + work.plan.most_samples)
    left: dict[bytes, float] = {}
    for run, begin, at, end in zip(runs, begin_R.tolist(), at_R.tolist(), ends.tolist(), strict=True):
        if run.arrival is None:
            if at < end:
                left[run.member] = min(run.dues[0], left.get(run.member, run.dues[0]))
        elif at > begin:
            run.arrival.passed[run.nth][1] += at - begin
            work.moved[run.arrival.number] = run.arrival
    for member, due in left.items():
        work.dues.set(member, due)
    for arrival in arrivals:
        work.dues.set(b"c:%d" % arrival.number, arrival.next_due())
    return done
