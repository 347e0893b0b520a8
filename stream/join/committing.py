"""What a call has changed is written, in one call of `state_store/lua/commit.lua`, if nobody else has written since."""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np

from learner.samples.layout import HEADER, HISTORY_HEADER, HISTORY_MAGIC, MAGIC
from state_store.client import script
from state_store.records import Applied, Outcome
from state_store.states import StateStore
from stream.join.commands import command
from stream.join.kernels.arrays import ITEMS_TOUCHED, SAMPLES, TOUCHED, USERS_TOUCHED, Arrays
from stream.join.kernels.columns import measure, put_columns, put_views
from stream.join.kernels.upkeep import end_call
from stream.join.kernels.writes import (
    DEAD_KEY,
    FENCE,
    HDEL,
    HINCRBY,
    HSET,
    OUTBOX,
    WAITING,
    WIDE,
    XADD,
    Naming,
    write_entities,
    write_held,
)
from stream.join.memory.clocks import digits
from stream.join.memory.due import write_arrivals
from stream.join.memory.plan import Plan, bytes_of
from stream.join.work import Work

_pack = msgspec.msgpack.encode


class Writer:
    """Writes.

    Args:
        store: the state store.
        plan: of the pipeline.
    """

    def __init__(self, store: StateStore, plan: Plan) -> None:
        self._keys, self._plan = store.keys, plan
        self._commit = script(store.client, "commit")
        self._fields = _pack(plan.fence_fields)

    def write(self, work: Work) -> Applied | None:
        """Write what a call has changed; None if the fence is not what it was when the call began."""
        call, partition, plan = work.call, work.partition, work.plan
        outcome = Outcome.GAP if not work.is_tick and call.span.num_lost else Outcome.OK
        dead = b"".join(command(XADD, DEAD_KEY, _dead_fields(*one)) for one in work.dead)
        data = [
            dead,
            work.dues.commands(),
            write_arrivals(list(work.moved.values())),
            self._held(work),
            _waiting(work),
            self._entities(work),
            *self._samples(work),
        ]
        fence, values = self._fence(work)
        data += [command(HSET, FENCE, values, 2), *_counters(work)]
        p, keys = call.partition, self._keys
        expected = [(value or b"").decode() for value in work.fetched.fence]
        answer: Any = self._commit(
            keys=[
                keys.fence(p),
                keys.waiting(p),
                keys.due(p),
                keys.outbox(p),
                keys.dirty(p),
                keys.dead(p),
                keys.bodies(p),
                keys.labels(p),
                keys.arrivals(p),
            ],
            args=[call.epoch, self._fields, _pack(expected), b"".join(data)],
        )
        if not answer[0]:
            return None
        partition.fence = fence
        self._end(work)
        offset = call.span.last
        if work.is_tick:
            stored = fence[1 + plan.topics.index(call.topic)]
            offset = -1 if stored is None else int(stored)
        partition.to_mend = [key.decode() for key in answer[1]]
        return Applied(outcome, offset, partition.sequence, work.fetched.learned, False, call.epoch)

    def _held(self, work: Work) -> bytes:
        arrays, plan = work.partition.arrays, work.plan
        touched = arrays.lists_4S[TOUCHED, : arrays.sizes[TOUCHED]]
        if not len(touched):
            return b""
        held = arrays.held_S[touched]
        bodies = (
            held["body_size"] * held["is_body_new"] + 4 * held["id_size"] + 17 * held["num_values"].astype(np.int64)
        )
        to = work.partition.scratch(int(bodies.sum()) + len(touched) * (64 + 9 * plan.num_tasks) + 1024)
        place = np.zeros(3, np.int64)
        write_held(arrays, plan.options, to, place)
        return to[: place[0]].tobytes()

    def _entities(self, work: Work) -> bytes:
        partition, plan, p = work.partition, work.plan, work.call.partition
        arrays = partition.arrays
        users = arrays.lists_4S[USERS_TOUCHED, : arrays.sizes[USERS_TOUCHED]]
        items = arrays.lists_4S[ITEMS_TOUCHED, : arrays.sizes[ITEMS_TOUCHED]]
        if not len(users) and not len(items):
            return b""
        keys, clock_s = self._keys, work.fetched.clock_s
        prefixes = keys.user(p, ""), keys.item(p, "")
        users_are, items_are = (
            Naming(ids.arrays, bytes_of(prefix), fields, field_at, renewed, clock_s // sixteenth, life)
            for ids, prefix, fields, field_at, renewed, sixteenth, life in zip(
                (partition.users, partition.items),
                prefixes,
                plan.fields,
                plan.field_at,
                (plan.user_renewed, plan.item_renewed),
                plan.sixteenths,
                plan.lives,
                strict=True,
            )
        )
        widths = sum(len(of) + 32 * (len(at) - 1) for of, at in zip(plan.fields, plan.field_at, strict=True))
        per = widths + 2 * sum(map(len, prefixes)) + 128
        histories = len(users) * (sum(plan.kept_H) + 8)
        names = sum(of.bytes_of(numbers) for of, numbers in ((partition.users, users), (partition.items, items)))
        num = len(users) + len(items)
        to, place = partition.scratch(num * per + 3 * names + histories + 1024), np.zeros(3, np.int64)
        write_entities(arrays, plan.options, to, place, users_are, items_are)
        return to[: place[0]].tobytes()

    def _samples(self, work: Work) -> list[bytes]:
        """Entries of the outbox, one per layout."""
        partition, options = work.partition, work.plan.options
        arrays = partition.arrays
        num = int(arrays.sizes[SAMPLES])
        if not num:
            return []
        tags = arrays.held_S["tag"][arrays.samples_E["held"][:num]]
        order = [int(tags[0])] if (tags == tags[0]).all() else list(dict.fromkeys(tags.tolist()))
        entries = []
        for tag in order:
            payload, num_samples = _columns(arrays, options, tag)
            partition.sequence += num_samples
            entries.append(command(XADD, OUTBOX, [b"%d-0" % partition.sequence, b"s", payload]))
        return entries

    def _fence(self, work: Work) -> tuple[list[bytes | None], list[bytes]]:
        """Values of the fence's fields from now on, and what is to be written of the fence."""
        call, partition, plan = work.call, work.partition, work.plan
        fence = list(work.fetched.fence)
        values = {"epoch": b"%d" % call.epoch, "seq": b"%d" % partition.sequence}
        if partition.watermark is not None:
            values["watermark"] = digits(partition.watermark)
        if partition.num_arrivals:
            values["arrivals"] = b"%d" % partition.num_arrivals
        if not work.is_tick:
            clock, topic = partition.clocks[call.topic], call.topic
            clock.seen = float(call.reading.now_ms)
            values[f"offset:{topic}"] = b"%d" % call.span.last
            values[f"seen:{topic}"] = b"%d" % call.reading.now_ms
            if clock.top is not None:
                values[f"max_ts:{topic}"] = digits(clock.top)
            if clock.moved is not None:
                values[f"moved:{topic}"] = digits(clock.moved)
            if clock.users:
                values[f"claims:{topic}"] = clock.claims()
        for n, name in enumerate(plan.fence_fields):
            fence[n] = values.get(name, fence[n])
        return fence, [part for name, value in values.items() for part in (name.encode(), value)]

    def _end(self, work: Work) -> None:
        """All is written: what is gone is forgotten."""
        partition = work.partition
        arrays = partition.arrays
        gone = np.zeros(int(arrays.sizes[TOUCHED]), np.int64)
        num_gone = int(end_call(arrays, work.plan.options, gone))
        partition.forget_imps(gone[:num_gone])
        work.give_back(work.borrowed)
        for number, arrival in work.moved.items():
            arrival.is_new = False
            if arrival.passed[-1][1] == len(arrival):
                partition.arrivals.pop(number, None)


def _dead_fields(reason: str, topic: str, offset: int, event: dict[str, Any]) -> list[bytes]:
    return [
        b"*",
        b"reason",
        reason.encode(),
        b"topic",
        topic.encode(),
        b"offset",
        b"%d" % offset,
        b"event",
        _pack(event),
    ]


def _waiting(work: Work) -> bytes:
    waiting = work.partition.waiting
    gone = [imp.encode() for imp in work.waiting_changed if imp not in waiting]
    written = [part for imp in work.waiting_changed if imp in waiting for part in (imp.encode(), _pack(waiting[imp]))]
    if written:
        written += [b"", b" " * WIDE]
    return command(HDEL, WAITING, gone) + command(HSET, WAITING, written, 2)


def _counters(work: Work) -> Sequence[bytes]:
    arrays, counters = work.partition.arrays, work.plan.counters
    found = list(compress(zip(counters, arrays.counts_2[0].tolist(), strict=True), arrays.counts_2[1].tolist()))
    if not work.is_tick and work.call.span.num_lost:
        found.append(("n:gap", work.call.span.num_lost))
    if not work.is_tick and work.call.num_misplaced:
        found.append(("n:misplaced", work.call.num_misplaced))
    return [command(HINCRBY, FENCE, [name.encode(), b"%d" % num]) for name, num in found]


def _columns(arrays: Arrays, options: Any, tag: int) -> tuple[bytes, int]:
    """An entry of the outbox, and how many samples it has."""
    sizes = np.zeros(4, np.int64)
    measure(arrays, options, tag, sizes)
    num, texts, keys, rows = sizes.tolist()
    has_histories = options.num_histories > 0 and tag == options.history_tag
    entries = int(put_views(arrays, arrays.bodies, 0, False)) if has_histories else 0
    header = (
        HISTORY_HEADER.pack(HISTORY_MAGIC, tag, num, texts, keys, entries)
        if has_histories
        else HEADER.pack(MAGIC, tag, num, texts, keys)
    )
    texts_at = len(header)
    keys_at, views_at = texts_at + texts, texts_at + texts + keys
    rows_at = views_at + entries
    to = np.empty(rows_at + rows, np.uint8)
    to[:texts_at] = np.frombuffer(header, np.uint8)
    if has_histories:
        put_views(arrays, to, views_at, True)
    put_columns(arrays, options, tag, to, texts_at, keys_at, rows_at)
    return to.tobytes(), num
