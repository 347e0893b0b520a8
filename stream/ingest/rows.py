"""Raw records -> the rows that the state store applies, each checked; what is malformed becomes a dead letter."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import UNSET

from learner.config import FieldSettings, HistorySettings
from learner.samples.layout import Layout
from state_store.config import ActionSettings
from stream.events import Feedback, Heartbeat, Impression, MalformedEventError, decode_event
from stream.features import FeatureExtractor, shown_of
from stream.join.kernels.words import FEEDBACK, HEARTBEAT, IMPRESSION, MALFORMED, REROUTED
from stream.join.records import Row
from stream.partitioning import partition_of
from stream.sections import EventSettings


class Record(Protocol):
    """One record of a log, whoever read it."""

    @property
    def offset(self) -> int:
        """Where it lies."""

    @property
    def value(self) -> bytes | None:
        """As it is there."""

    @property
    def timestamp(self) -> int | None:
        """Wall clock at which it was written, ms; taken for unknown where it makes no sense."""


class LogRecord(msgspec.Struct, frozen=True):
    """One record of a log."""

    offset: int
    value: bytes | None
    timestamp: int | None


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be used, as it was, with the reason."""

    topic: str
    partition: int
    offset: int
    value: bytes
    reason: str


class Decoded(msgspec.Struct, frozen=True):
    """What records were decoded to."""

    rows: Sequence[Row]
    """One per record."""
    cores: list[bytes]
    """What samples carry of the impressions, one behind the other, in pieces."""
    dead: list[DeadLetter]
    num_misplaced: int
    """How many records were found to lie in another partition than their user's."""


class RowDecoder:
    """Decodes records.

    Args:
        impressions_topic: the other topic is that of the feedback.
        fields: declared fields of a sample.
        actions: feedback that counts.
        limits: bounds on event time, and what becomes of misplaced records.
        histories: that samples carry.
        num_partitions: of the input topics, to notice records in a partition not their user's; 0: nobody looks.
        reroute: writes (topic, partition, user, value) where it belongs and returns once it is durable there.
    """

    def __init__(
        self,
        impressions_topic: str,
        fields: Sequence[FieldSettings],
        actions: ActionSettings,
        limits: EventSettings,
        histories: Sequence[HistorySettings] = (),
        *,
        num_partitions: int = 0,
        reroute: Callable[[str, int, str, bytes], None] | None = None,
    ) -> None:
        self._impressions_topic = impressions_topic
        self._extract = FeatureExtractor(fields).extract_from
        self._pack = Layout(fields, actions.names, histories).pack_core
        self._actions = {name: i + 1 for i, name in enumerate(actions.names)}
        self._limits = limits
        self._num_partitions = num_partitions
        self._reroute = reroute

    def warm_up(self) -> float:
        """Nothing is compiled."""
        return 0.0

    def decode(self, topic: str, partition: int, records: Sequence[Record], now_ms: int) -> Decoded:
        """Decode what was read of one topic partition.

        Args:
            topic: impressions or feedback.
            partition: where the records lie.
            records: in order.
            now_ms: wall clock.
        """
        rows: list[Row] = []
        cores: list[bytes] = []
        dead: list[DeadLetter] = []
        misplaced = 0
        for record in records:
            try:
                row, core = self._row(topic, record, now_ms)
                home = self._home(partition, row)
                if home is not None:
                    misplaced += 1
                    row, core = self._move(topic, partition, home, record, row, core)
            except MalformedEventError as exc:
                dead.append(DeadLetter(topic, partition, record.offset, record.value or b"", str(exc)))
                row, core = (MALFORMED, record.offset, 0), b""
            rows.append(row)
            if core:
                cores.append(core)
        return Decoded(rows, cores, dead, misplaced)

    def _home(self, partition: int, row: Row) -> int | None:
        """The partition where a record belongs, if it is another one."""
        if not self._num_partitions or row[0] not in (IMPRESSION, FEEDBACK):
            return None
        home = partition_of(str(row[4]), self._num_partitions)
        return None if home == partition else home

    def _move(self, topic: str, partition: int, home: int, record: Record, row: Row, core: bytes) -> tuple[Row, bytes]:
        """What becomes of a record that belongs in the partition `home`.

        Raises:
            MalformedEventError: it is refused.
        """
        if self._limits.misplaced == "refuse":
            raise MalformedEventError(
                f"user_id {row[4]!r:.80} belongs in partition {home} by Kafka's default partitioner, not {partition}; "
                "give records the user id as key, and let the producer use murmur2 (librdkafka: murmur2_random)"
            )
        if self._limits.misplaced == "reroute" and self._reroute is not None:
            self._reroute(topic, home, str(row[4]), record.value or b"")
            return (REROUTED, record.offset, 0), b""
        return row, core

    def _row(self, topic: str, record: Record, now_ms: int) -> tuple[Row, bytes]:
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
            produced = record.timestamp or 0
            # Some producers give no timestamp, or one in seconds: an age by it would make no sense.
            known = limits.min_ts_ms <= produced <= now_ms + limits.max_ahead_ms
            times = event.ts, produced if known else 0
            core = self._pack(event.imp_id, event.user_id, event.item_id, times, self._extract(event), shown_of(event))
            return (IMPRESSION, record.offset, event.ts, event.imp_id, event.user_id, event.item_id, len(core)), core
        if isinstance(event, Feedback):
            if at_impressions:
                raise MalformedEventError(f"feedback does not belong in topic {topic!r}")
            action = self._actions.get(event.action)
            if action is None:
                raise MalformedEventError(f"action {event.action!r:.80} is not one of {list(self._actions)}")
            row = (FEEDBACK, record.offset, event.ts, event.imp_id, event.user_id, event.item_id, action)
            return (row if event.value is UNSET or event.value is None else (*row, event.value)), b""
        assert isinstance(event, Heartbeat)
        return (HEARTBEAT, record.offset, event.ts), b""
