"""The ingest stage: raw records of one topic partition -> one atomic call to the state store.

No Faust, no event loop, no clock: time is an argument. The same stage runs behind Kafka, in a backtest and in tests.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

import msgspec

from learner.config import FieldSettings, HistorySettings
from state_store.config import ActionSettings
from state_store.records import Applied, Call, Outcome, Reading, Span
from state_store.states import StateStore
from stream.ingest.plain.decoder import PlainDecoder
from stream.ingest.rows import DeadLetter, Decoded, Record, RowDecoder
from stream.join.join import CompiledJoin
from stream.sections import EventSettings, JoinedBy


class ZombieError(RuntimeError):
    """This worker lost the partition to a newer owner."""


class RollbackError(RuntimeError):
    """Redis was restored from a snapshot older than what this worker has applied."""


class HoleError(RuntimeError):
    """Records between the fence and a batch never reached this worker: they are to be read again, from the fence on."""


class Ready(msgspec.Struct, frozen=True):
    """What was read of one topic partition, ready to be applied."""

    topic: str
    partition: int
    records: Sequence[Record]
    span: Span
    now_ms: int
    """Wall clock."""
    decoded: Decoded


class Ingest:
    """Decodes, validates and applies batches; malformed records are handed to `bury` before the fence passes them.

    Args:
        store: the state store.
        fields: declared fields of a sample.
        actions: feedback that counts.
        limits: bounds on event time.
        bury: writes dead letters and returns once they are durable.
        num_partitions: of the input topics, to notice records in a partition not their user's; 0: nobody looks.
        reroute: writes (topic, partition, user, value) where it belongs and returns once it is durable there.
        histories: that samples carry; those that the store keeps.
        join: where records meet: in this process' memory, or in Redis, by a script.
    """

    def __init__(
        self,
        store: StateStore,
        fields: Sequence[FieldSettings],
        actions: ActionSettings,
        limits: EventSettings,
        bury: Callable[[Sequence[DeadLetter]], None],
        *,
        num_partitions: int = 0,
        reroute: Callable[[str, int, str, bytes], None] | None = None,
        histories: Sequence[HistorySettings] = (),
        join: CompiledJoin | JoinedBy = "compiled",
    ) -> None:
        self._store = store
        self._join: CompiledJoin | None = None
        if join != "script":
            self._join = CompiledJoin(store) if join == "compiled" else join
        decoder = (RowDecoder if self._join is None else PlainDecoder)(
            store.topics[0], fields, actions, limits, histories, num_partitions=num_partitions, reroute=reroute
        )
        self._decoder = decoder
        self._decode: Callable[[str, int, Sequence[Record], int], Decoded] = decoder.decode
        self._bury = bury
        self.epochs: dict[int, int] = {}
        self.applied: dict[tuple[str, int], int] = {}
        """(topic, partition) -> last offset applied."""
        self.superseded: set[int] = set()
        """Partitions that a newer owner was found to have."""
        self.outcomes: Counter[str] = Counter()
        """What the fence said to this worker's batches."""
        self._counting = Lock()

    def warm_up(self) -> float:
        """Have everything compiled before the first record comes; returns the seconds it took."""
        if self._join is None:
            return 0.0
        return self._join.warm_up() + self._decoder.warm_up()

    def code(self, coded: Callable[[Decoded], Decoded]) -> None:
        """From now on, put codes of samples into what was decoded."""
        decode = self._decode
        self._decode = lambda *read: coded(decode(*read))

    def assign(self, partition: int, earliest: Mapping[str, int] | None = None) -> dict[str, int]:
        """Take a partition over; returns the last offset applied per topic (-1: none).

        Args:
            partition: the partition.
            earliest: earliest offset that the broker still has, per topic; where nothing was applied yet, reading
                starts there.
        """
        self._forget(partition)
        self.epochs[partition] = self._store.open_epoch(partition)
        self.superseded.discard(partition)
        self._store.begin_log(partition, earliest or {})
        offsets = self._store.fence_offsets([partition])[partition]
        self.applied |= {(topic, partition): offset for topic, offset in offsets.items()}
        return offsets

    def release(self, partition: int) -> None:
        """Give a partition up: what still comes from it is refused."""
        self.epochs.pop(partition, None)
        self.superseded.discard(partition)
        self._forget(partition)

    def process(
        self, topic: str, partition: int, records: Sequence[Record], now_ms: int, span: Span | None = None
    ) -> Applied:
        """Apply records of one topic partition, in order; safe to call again with any of them.

        Arguments and errors: as of `decode` and `apply`.
        """
        return self.apply(self.decode(topic, partition, records, now_ms, span))

    def decode(
        self, topic: str, partition: int, records: Sequence[Record], now_ms: int, span: Span | None = None
    ) -> Ready:
        """Decode records of one topic partition; what is malformed is durable elsewhere once this returns.

        Args:
            topic: impressions or feedback.
            partition: assigned before.
            records: what was read.
            now_ms: wall clock.
            span: the offsets that were read; default: those of the records, of which there is then at least one.
        """
        span = span or Span(records[0].offset, records[-1].offset)
        decoded = self._decode(topic, partition, records, now_ms)
        if decoded.dead:
            self._bury(decoded.dead)
        return Ready(topic, partition, records, span, now_ms, decoded)

    def apply(self, ready: Ready) -> Applied:
        """Apply what was decoded.

        Raises:
            ZombieError: a newer owner has the partition.
            RollbackError: Redis is older than what was applied; assign the partition anew and read from its fence.
            HoleError: the span does not begin where the last one ended.
        """
        topic, partition, span, decoded = ready.topic, ready.partition, ready.span, ready.decoded
        call = Call(
            partition,
            topic,
            span,
            self._epoch(partition),
            decoded.rows,
            b"".join(decoded.cores),
            self.applied[topic, partition],
            decoded.num_misplaced,
            Reading(ready.now_ms),
        )
        applied = (self._join or self._store).apply_call(call)
        with self._counting:
            self.outcomes[applied.outcome.name] += 1
        if applied.outcome is Outcome.OVERLAP:
            rest = [r for r in ready.records if r.offset > applied.offset]
            return self.process(topic, partition, rest, ready.now_ms, span.behind(applied.offset))
        self._check_owner(partition, applied)
        if applied.outcome is Outcome.HOLE:
            raise HoleError(f"{topic}/{partition}: offsets {applied.offset + 1} to {span.first - 1} were not delivered")
        self.applied[topic, partition] = applied.offset
        # Of what was applied before, the answer that more is due may have been lost.
        more = applied.more or applied.outcome is Outcome.DUP
        while more:
            applied = msgspec.structs.replace(self.tick(partition), outcome=applied.outcome, offset=applied.offset)
            more = applied.more
        return applied

    def process_all(self, batches: Iterable[tuple[str, int, Sequence[Record]]], now_ms: int) -> None:
        """Apply many small batches in order, without waiting for each: for whoever alone has the partitions.

        Args:
            batches: topic, partition and records of each; no record may have been applied before.
            now_ms: wall clock.
        """
        calls = []
        for topic, partition, records in batches:
            decoded = self._decode(topic, partition, records, now_ms)
            if decoded.dead:
                self._bury(decoded.dead)
            span, epoch = Span(records[0].offset, records[-1].offset), self._epoch(partition)
            known = self.applied[topic, partition]
            self.applied[topic, partition] = span.last
            cores = b"".join(decoded.cores)
            calls.append(Call(partition, topic, span, epoch, decoded.rows, cores, known, reading=Reading(now_ms)))
        for call, applied in zip(calls, self._store.apply_all(calls), strict=True):
            if applied.outcome is not Outcome.OK:
                raise HoleError(f"{call.topic}/{call.partition}: {call.span} was not applied: {applied.outcome}")
            more = applied.more
            while more:
                more = self.tick(call.partition).more

    def tick(self, partition: int, reading: Reading | None = None) -> Applied:
        """Handle deadlines at a moment without records.

        Args:
            partition: assigned before.
            reading: how far the topics are read; what is read to its end goes on by the clock.
        """
        applied = (self._join or self._store).tick(partition, self._epoch(partition), reading)
        self._check_owner(partition, applied)
        return applied

    def roll_up(self, num_partitions: int) -> int:
        """Exchange counts of items between this worker's partitions and all others; returns how many changed."""
        told = None if self._join is None else self._join.take_sums
        return self._store.roll_up_items(sorted(self.epochs), num_partitions, told)

    def check_state(self, partitions: Sequence[int]) -> None:
        """Notice a Redis restored from an older snapshot also while no records come.

        Raises:
            RollbackError: a fence lies before what was applied.
        """
        # As of before the fences are read: other threads go on meanwhile.
        applied = dict(self.applied)
        for partition, offsets in self._store.fence_offsets(partitions).items():
            for topic, offset in offsets.items():
                known = applied.get((topic, partition), -1)
                if offset < known:
                    raise RollbackError(
                        f"{topic}/{partition}: Redis is at offset {offset}, {known} was applied: "
                        "it was restored from an older snapshot"
                    )

    def cut_log(self, topic: str, partition: int, end: int) -> None:
        """Go on at the end of a log that is shorter than what was applied of it."""
        self._store.cut_log(partition, self._epoch(partition), topic, end)

    def _forget(self, partition: int) -> None:
        if self._join is not None:
            self._join.forget(partition)

    def _epoch(self, partition: int) -> int:
        epoch = self.epochs.get(partition)
        if epoch is None:
            raise ZombieError(f"partition {partition} is no longer assigned to this worker")
        return epoch

    def _check_owner(self, partition: int, applied: Applied) -> None:
        if applied.outcome is Outcome.ZOMBIE:
            own = self.epochs.get(partition, applied.epoch)
            if own < applied.epoch:  # Unless it has been taken over once more meanwhile, in another thread.
                self.superseded.add(partition)
            raise ZombieError(f"partition {partition}: epoch {own} is over, epoch {applied.epoch} owns it now")
        if applied.outcome is Outcome.ROLLBACK:
            raise RollbackError(f"partition {partition}: Redis was restored from an older snapshot")
