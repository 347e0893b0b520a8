"""The ingest stage: raw records of one topic partition -> one atomic call to the state store.

No Faust, no event loop, no clock: time is an argument. The same stage runs behind Kafka, in a backtest and in tests.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET

from learner.config import FieldSettings
from state_store.config import ActionSettings
from state_store.records import Applied, Outcome
from state_store.states import StateStore
from stream.events import Feedback, Heartbeat, Impression, MalformedEventError, decode_event
from stream.features import FeatureExtractor, shown_of
from stream.sections import EventSettings

_pack = msgspec.msgpack.encode


class LogRecord(msgspec.Struct, frozen=True):
    """One record of a log."""

    offset: int
    value: bytes | None
    produced_ms: int
    """Wall clock at which it was written (Kafka's record timestamp)."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be used, as it was, with the reason."""

    topic: str
    partition: int
    offset: int
    value: bytes
    reason: str


class ZombieError(RuntimeError):
    """This worker lost the partition to a newer owner."""


class RollbackError(RuntimeError):
    """Redis was restored from a snapshot older than what this worker has applied."""


class Ingest:
    """Decodes, validates and applies batches; malformed records are handed to `bury` before the fence passes them.

    Args:
        store: the state store.
        fields: declared fields of a sample.
        actions: feedback that counts.
        limits: bounds on event time.
        bury: writes dead letters and returns once they are durable.
    """

    def __init__(
        self,
        store: StateStore,
        fields: Sequence[FieldSettings],
        actions: ActionSettings,
        limits: EventSettings,
        bury: Callable[[Sequence[DeadLetter]], None],
    ) -> None:
        self._store = store
        self._impressions_topic = store.topics[0]
        self._extract = FeatureExtractor(fields).extract_from
        self._actions = {name: i + 1 for i, name in enumerate(actions.names)}
        self._limits = limits
        self._bury = bury
        self.epochs: dict[int, int] = {}
        self._newest_ts: dict[int, int] = {}
        self.applied: dict[tuple[str, int], int] = {}
        """(topic, partition) -> last offset applied."""
        self.outcomes: Counter[str] = Counter()
        """What the fence said to this worker's batches."""

    def assign(self, partition: int, earliest: Mapping[str, int] | None = None) -> dict[str, int]:
        """Take a partition over; returns the last offset applied per topic (-1: none).

        Args:
            partition: the partition.
            earliest: earliest offset that the broker still has, per topic; where nothing was applied yet, reading
                starts there.
        """
        self.epochs[partition] = self._store.open_epoch(partition)
        self._store.begin_log(partition, earliest or {})
        offsets = self._store.fence_offsets(partition)
        self.applied |= {(topic, partition): offset for topic, offset in offsets.items()}
        return offsets

    def release(self, partition: int) -> None:
        """Give a partition up: what still comes from it is refused."""
        self.epochs.pop(partition, None)

    def process(self, topic: str, partition: int, records: Sequence[LogRecord], now_ms: int) -> Applied:
        """Apply records of one topic partition, contiguous and in order; safe to call again with any of them.

        Args:
            topic: impressions or feedback.
            partition: assigned before.
            records: at least one.
            now_ms: wall clock; event times far ahead of it are malformed.

        Raises:
            ZombieError: a newer owner has the partition.
            RollbackError: Redis is older than what was applied; assign the partition anew and read from its fence.
        """
        rows, cores, dead = self._decode(topic, partition, records, now_ms)
        newest = max(int(row[2]) for row in rows)
        self._newest_ts[partition] = max(self._newest_ts.get(partition, 0), newest)
        if dead:
            self._bury(dead)
        applied = self._store.apply(
            partition,
            topic,
            (records[0].offset, records[-1].offset),
            self._epoch(partition),
            rows,
            b"".join(cores),
            known_offset=self.applied[topic, partition],
        )
        self.outcomes[applied.outcome.name] += 1
        if applied.outcome is Outcome.OVERLAP:
            return self.process(topic, partition, [r for r in records if r.offset > applied.offset], now_ms)
        self._check_owner(partition, applied)
        self.applied[topic, partition] = applied.offset
        while applied.more:
            applied = msgspec.structs.replace(self.tick(partition), outcome=applied.outcome, offset=applied.offset)
        return applied

    def tick(self, partition: int, *, idle_topics: Sequence[str] = (), watermark_floor_ms: int = 0) -> Applied:
        """Handle deadlines of a quiet partition."""
        applied = self._store.tick(
            partition, self._epoch(partition), idle_topics=idle_topics, watermark_floor_ms=watermark_floor_ms
        )
        self._check_owner(partition, applied)
        return applied

    def check_state(self, partition: int) -> None:
        """Notice a Redis restored from an older snapshot also while no records come.

        Raises:
            RollbackError: the fence lies before what was applied.
        """
        for topic, offset in self._store.fence_offsets(partition).items():
            if offset < self.applied.get((topic, partition), -1):
                known = self.applied[topic, partition]
                raise RollbackError(
                    f"{topic}/{partition}: Redis is at offset {offset}, {known} was applied: "
                    "it was restored from an older snapshot"
                )

    def is_live(self, partition: int, now_ms: int, horizon_ms: int) -> bool:
        """Whether the partition's newest event is about as young as the wall clock; one of an old log is not."""
        return now_ms - self._newest_ts.get(partition, 0) <= 2 * horizon_ms

    def _epoch(self, partition: int) -> int:
        epoch = self.epochs.get(partition)
        if epoch is None:
            raise ZombieError(f"partition {partition} is no longer assigned to this worker")
        return epoch

    def _check_owner(self, partition: int, applied: Applied) -> None:
        if applied.outcome is Outcome.ZOMBIE:
            raise ZombieError(
                f"partition {partition}: epoch {self.epochs[partition]} is over, epoch {applied.epoch} owns it now"
            )
        if applied.outcome is Outcome.ROLLBACK:
            raise RollbackError(f"partition {partition}: Redis was restored from an older snapshot")

    def _decode(
        self, topic: str, partition: int, records: Sequence[LogRecord], now_ms: int
    ) -> tuple[list[tuple[int | str | float, ...]], list[bytes], list[DeadLetter]]:
        rows: list[tuple[int | str | float, ...]] = []
        cores: list[bytes] = []
        dead: list[DeadLetter] = []
        for record in records:
            try:
                row, core = self._row(topic, record, now_ms)
            except MalformedEventError as exc:
                dead.append(DeadLetter(topic, partition, record.offset, record.value or b"", str(exc)))
                row, core = (0, record.offset, 0), b""
            rows.append(row)
            if core:
                cores.append(core)
        return rows, cores, dead

    def _core(self, event: Impression, produced_ms: int) -> tuple[object, ...]:
        """What the sample carries of the impression itself, in the form of `learner.sample.Core`."""
        core = (event.imp_id, event.user_id, event.item_id, event.ts, produced_ms, self._extract(event))
        return core if (shown := shown_of(event)) is None else (*core, shown)

    def _row(self, topic: str, record: LogRecord, now_ms: int) -> tuple[tuple[int | str | float, ...], bytes]:
        event = decode_event(record.value)
        limits = self._limits
        if not limits.min_ts_ms <= event.ts <= now_ms + limits.max_ahead_ms:
            raise MalformedEventError(
                f"ts {event.ts} lies outside [{limits.min_ts_ms}, now + {limits.max_ahead_ms}] ms"
            )
        at_impressions = topic == self._impressions_topic
        if isinstance(event, Impression):
            if not at_impressions:
                raise MalformedEventError(f"an impression does not belong in topic {topic!r}")
            core = _pack(self._core(event, record.produced_ms))
            return (1, record.offset, event.ts, event.imp_id, event.user_id, event.item_id, len(core)), core
        if isinstance(event, Feedback):
            if at_impressions:
                raise MalformedEventError(f"feedback does not belong in topic {topic!r}")
            action = self._actions.get(event.action)
            if action is None:
                raise MalformedEventError(f"action {event.action!r:.80} is not one of {list(self._actions)}")
            row = (2, record.offset, event.ts, event.imp_id, event.user_id, event.item_id, action)
            return (row if event.value is UNSET or event.value is None else (*row, event.value)), b""
        assert isinstance(event, Heartbeat)
        return (3, record.offset, event.ts), b""
