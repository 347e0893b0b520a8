"""The state of the stream: one atomic call per batch, and what stands around it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import redis

from state_store.client import script
from state_store.config import ActionSettings, JoinSettings, RedisSettings
from state_store.entities.audit import each_below
from state_store.entities.histories import Histories, history_options
from state_store.entities.norms import norm_rows
from state_store.entities.roll_up import RollUp, Told, other_fields
from state_store.errors import lost_ownership
from state_store.keys import Keys
from state_store.records import Applied, Call, EntityState, Outcome, Reading, Span, flat
from state_store.tasks import TaskSettings, join_options, resolve_tasks

_pack = msgspec.msgpack.encode
_EVENT_TIME = ("max_ts", "claims", "moved", "seen")
"""What a fence knows of a topic's event time."""


def _applied(answer: Any) -> Applied:
    outcome, offset, sequence, learned, more, stored_epoch = answer
    return Applied(Outcome(outcome.decode()), offset, sequence, learned, bool(more), stored_epoch)


def fence_counts(fences: Iterable[Mapping[bytes, bytes]]) -> dict[str, int]:
    """The join's counters, summed over fences."""
    totals: Counter[str] = Counter()
    for fields in fences:
        for name, value in fields.items():
            if name.startswith(b"n:"):
                totals[name[2:].decode()] += int(value)
    return dict(totals)


class StateStore:
    """Fence, counters, label join and outbox of every partition.

    `apply` is the only writer on the hot path: one Lua call (`lua/apply`) checks the fence, snapshots counters and
    norms as of each impression, counts, joins, fills the outbox and moves watermark and fence, all or nothing.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: RedisSettings,
        join: JoinSettings,
        actions: ActionSettings,
        topics: tuple[str, str],
        tasks: Sequence[TaskSettings] = (),
        histories: Histories | None = None,
    ) -> None:
        self.client = client
        self.keys = Keys(settings.prefix)
        self.topics = topics
        self.tasks = resolve_tasks(tasks, actions, join)
        self.histories = histories or Histories()
        self.join, self.actions = join, actions
        self.ttl_s = (settings.user_ttl_s, settings.item_ttl_s)
        """Lives of users and of items."""
        self._options = _pack(
            {
                **join_options(self.tasks, actions, join),
                **history_options(self.histories),
                "topics": topics,
                "user_ttl_s": settings.user_ttl_s,
                "item_ttl_s": settings.item_ttl_s,
            }
        )
        self._apply = script(client, "apply")
        self._cut_log = script(client, "cut_log")
        self._write_norms = script(client, "write_norms")
        self._count_fields = actions.counted
        self._other_fields = other_fields(self._count_fields)
        self._roll_up = RollUp(client, self.keys, self._count_fields, settings.item_ttl_s)

    # The hot path -----------------------------------------------------------------------------------------------

    def open_epoch(self, partition: int) -> int:
        """Take a partition over: every older owner's batches are refused from now on."""
        return int(self.client.hincrby(self.keys.fence(partition), "epoch", 1))

    def begin_log(self, partition: int, earliest: Mapping[str, int]) -> None:
        """Put the fence of each topic that has none just before the earliest offset that the broker still has.

        From there on records that are gone before they are read count as a gap.
        """
        for topic, offset in earliest.items():
            self.client.hsetnx(self.keys.fence(partition), f"offset:{topic}", offset - 1)

    def apply(
        self,
        partition: int,
        topic: str,
        span: Span,
        epoch: int,
        records: Sequence[Sequence[object]],
        cores: bytes = b"",
        *,
        known_offset: int = -1,
        num_misplaced: int = 0,
        reading: Reading | None = None,
    ) -> Applied:
        """Apply what lies in a range of offsets of one topic partition; see `Call`."""
        call = Call(partition, topic, span, epoch, records, cores, known_offset, num_misplaced, reading or Reading())
        return self.apply_call(call)

    def apply_call(self, call: Call) -> Applied:
        """The same."""
        return _applied(self._run(call))

    def apply_all(self, calls: Sequence[Call]) -> list[Applied]:
        """The same of several calls, one after the other, without waiting for each answer."""
        with self.client.pipeline(transaction=False) as pipe:
            for call in calls:
                self._run(call, pipe)
            return [_applied(answer) for answer in pipe.execute()]

    def _run(self, call: Call, client: Any = None) -> Any:
        keys, p, reading = self.keys, call.partition, call.reading
        return self._apply(
            keys=[
                keys.fence(p),
                keys.pending(p),
                keys.waiting(p),
                keys.due(p),
                keys.outbox(p),
                keys.dirty(p),
                keys.dead(p),
                keys.learned(p),
                keys.bodies(p),
                keys.labels(p),
                keys.arrivals(p),
            ],
            args=[
                keys.user(p, ""),
                keys.item(p, ""),
                call.epoch,
                call.topic,
                call.span.first,
                call.span.last,
                _pack(flat(call.records)),
                self._options,
                _pack(reading),
                reading.now_ms,
                call.cores,
                call.known_offset,
                call.span.num_lost,
                call.num_misplaced,
            ],
            client=client,
        )

    def tick(self, partition: int, epoch: int, reading: Reading | None = None) -> Applied:
        """Handle deadlines without a batch."""
        return self.apply(partition, self.topics[0], Span(1, 0), epoch, (), reading=reading)

    def cut_log(self, partition: int, epoch: int, topic: str, end: int) -> bool:
        """Move a fence back to the end of a log that is shorter than what was applied of it.

        That is a log whose newest records were lost after they had been read: an unclean leader election, or a restored
        backup. What was counted stays counted; the offsets that come next are new records.

        Returns: whether it did; another owner's partition is left as it is.
        """
        done = self._cut_log(keys=[self.keys.fence(partition)], args=[epoch, topic, end])
        return bool(done)

    def fence_offsets(self, partitions: Sequence[int]) -> dict[int, dict[str, int]]:
        """Last offset applied per partition and topic, in one round trip; -1 where none was."""
        fields = [f"offset:{topic}" for topic in self.topics]
        with self.client.pipeline(transaction=False) as pipe:
            for p in partitions:
                pipe.hmget(self.keys.fence(p), fields)
            found = [[int(value) if value is not None else -1 for value in values] for values in pipe.execute()]
        return {p: dict(zip(self.topics, values, strict=True)) for p, values in zip(partitions, found, strict=True)}

    def other_logs(self, ids: Mapping[str, str]) -> list[str]:
        """Topics whose log is not the one that the fences belong to; a topic seen for the first time is remembered.

        Args:
            ids: topic -> the broker's id of it. A topic that is deleted and made anew has another one.
        """
        if not ids:
            return []
        for topic, log_id in ids.items():
            self.client.hsetnx(self.keys.log_ids, topic, log_id)
        held: Any = self.client.hmget(self.keys.log_ids, list(ids))
        return [topic for (topic, log_id), known in zip(ids.items(), held, strict=True) if known.decode() != log_id]

    def open_log(self, ids: Mapping[str, str], num_partitions: int) -> None:
        """Begin a new log generation: counters, samples, pending impressions stay; offsets, event time start over."""
        for p in range(num_partitions):
            fields = [f"{name}:{topic}" for topic in self.topics for name in ("offset", *_EVENT_TIME)]
            self.client.hdel(self.keys.fence(p), *fields)
        for topic, log_id in ids.items():
            self.client.hset(self.keys.log_ids, topic, log_id)

    # Items span partitions --------------------------------------------------------------------------------------

    def roll_up_items(self, partitions: Sequence[int], num_partitions: int, told: Told | None = None) -> int:
        """Bring items that changed in `partitions` up to date in the other partitions; returns how many changed.

        Each partition counts its own part of an item exactly. The sum over the other partitions is written beside it
        as an absolute value, so the roll-up may run at any time, twice, or by several workers at once. `told` learns
        what has been written, for whoever keeps it in memory.
        """
        return self._roll_up.run(partitions, num_partitions, told)

    # Reads and norms --------------------------------------------------------------------------------------------

    def read_user(self, partition: int, user_id: str) -> EntityState:
        """Counters and norm of a user; zeros for one never seen."""
        names = (*self._count_fields, "norm", "norm_version", "first_ts", "last_ts")
        values = self.client.hmget(self.keys.user(partition, user_id), names)
        width = len(self._count_fields)
        return EntityState(
            tuple(int(v or 0) for v in values[:width]),
            float(values[width] or 0.0),
            int(values[width + 1] or 0),
            int(values[width + 2] or 0),
            int(values[width + 3] or 0),
        )

    def read_items(self, partition: int, item_ids: Sequence[str]) -> list[EntityState]:
        """Counters (over all partitions) and norms of items, in one round trip."""
        names = (*self._count_fields, *self._other_fields, "norm", "norm_version")
        with self.client.pipeline(transaction=False) as pipe:
            for item_id in item_ids:
                pipe.hmget(self.keys.item(partition, item_id), names)
            found = pipe.execute()
        width = len(self._count_fields)
        return [
            EntityState(
                tuple(
                    int(own or 0) + int(other or 0) for own, other in zip(v[:width], v[width : 2 * width], strict=True)
                ),
                float(v[2 * width] or 0.0),
                int(v[2 * width + 1] or 0),
            )
            for v in found
        ]

    def write_norms(
        self,
        version: int,
        users: Mapping[int, Mapping[str, float]],
        items: Mapping[str, float],
        num_partitions: int,
        owner: int = 0,
    ) -> None:
        """Store embedding norms under the version of the weights they belong to.

        Args:
            version: weights version.
            users: partition -> user id -> L2 norm.
            items: item id -> L2 norm, written to every partition.
            num_partitions: partitions of the input topics.
            owner: the learner's number, from `Outbox.own`; 0 where there can be no other.

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        user_ttl_s, item_ttl_s = self.ttl_s
        for p in range(num_partitions):
            parts = [(self.keys.item(p, ""), rows, item_ttl_s) for rows in norm_rows(items)]
            parts += [(self.keys.user(p, ""), rows, user_ttl_s) for rows in norm_rows(users.get(p, {}))]
            for prefix, rows, ttl_s in parts:
                keys = [self.keys.owner(p), self.keys.fence(p)]
                if self._write_norms(keys=keys, args=[prefix, version, rows, ttl_s, owner]) < 0:
                    raise lost_ownership(self.keys.prefix)

    # Totals -----------------------------------------------------------------------------------------------------

    def fence_counts(self, partitions: Sequence[int]) -> dict[str, int]:
        """The join's counters, summed over partitions: impressions, feedback, positive, negative, correction, ..."""
        return fence_counts(self.fences(partitions))

    def fences(self, partitions: Sequence[int]) -> list[dict[bytes, bytes]]:
        """Everything that the partitions' fences hold, in one round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for p in partitions:
                pipe.hgetall(self.keys.fence(p))
            return list(pipe.execute())

    def iter_counters(self, partition: int, kind: str) -> dict[str, dict[str, int]]:
        """Own counters of every user (`kind="u"`) or item (`"i"`) of a partition; for audits, not for the hot path."""
        prefix = (self.keys.user if kind == "u" else self.keys.item)(partition, "")
        names, found = self._count_fields, dict[str, dict[str, int]]()
        for entity_id, values in each_below(self.client, prefix, lambda pipe, key: pipe.hmget(key, names)):
            counts = {name: int(v or 0) for name, v in zip(names, values, strict=True)}
            if any(counts.values()):
                found[entity_id] = counts
        return found
