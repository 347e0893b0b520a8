"""Writes a log as many kinds of producers would: compressed, in transactions, aborted ones among them; remembers what
counts, as the broker may not keep it."""

import random
from collections.abc import Iterable, Sequence
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from simulators.encoding import LogEntry
from simulators.oracle import Record
from state_store.errors import OperatorError
from stream.kafka.security import librdkafka_options
from stream.settings import Settings

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_TIMEOUT_S = 30.0


class BrokerRefusedError(OperatorError):
    """The broker did not do what was asked."""


class LogWriter:
    """Writes slices of a log.

    Args:
        settings: effective settings, with `kafka.url`.
        rng: draws sizes of transactions.
    """

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._topics = settings.topics
        self._partitions = range(settings.kafka.partitions)
        self._options = librdkafka_options(settings.kafka) | {"log_level": 2}
        self._rng = rng
        self._producers: dict[str, Producer] = {}
        self._last: dict[tuple[int, int], int] = {}
        self.records: list[Record] = []
        """What was written to stay, in order within each partition."""

    @property
    def num_written(self) -> int:
        """Records written to stay."""
        return len(self.records)

    def plain(self, entries: Iterable[LogEntry], codec: str = "none") -> None:
        """Write records one by one, in batches that a codec compresses."""
        producer = self._producer(codec)
        for entry in entries:
            self._produce(producer, entry)
            self._keep(entry)
        self._flush(producer)

    def in_transactions(self, entries: Sequence[LogEntry], codec: str = "none") -> None:
        """Write records in committed transactions of some ten each, with aborted ones between them."""
        producer = self._producer(codec, transactional=True)
        at = 0
        while at < len(entries):
            size = self._rng.randint(1, 20)
            part = entries[at : at + size]
            at += size
            if self._rng.random() < 0.3:
                self._transaction(producer, part, commit=False)
            self._transaction(producer, part, commit=True)
            for entry in part:
                self._keep(entry)

    def _transaction(self, producer: Producer, entries: Iterable[LogEntry], *, commit: bool) -> None:
        producer.begin_transaction()
        for entry in entries:
            self._produce(producer, entry)
        if commit:
            producer.commit_transaction(_TIMEOUT_S)
        else:
            # What has not left yet would be dropped here, and nothing would have to be passed over; a transaction of
            # which the broker has heard by half it may refuse to end.
            self._flush(producer)
            producer.abort_transaction(_TIMEOUT_S)

    def beside_an_open_transaction(self, entries: Sequence[LogEntry]) -> None:
        """Write records while a transaction is open, which is aborted in the end."""
        idle = Producer(self._options | {"transactional.id": f"chaos-{uuid4().hex}"})
        idle.init_transactions(_TIMEOUT_S)
        idle.begin_transaction()
        for entry in entries[:5]:
            self._produce(idle, entry)
        self._flush(idle)
        self.plain(entries)
        idle.abort_transaction(_TIMEOUT_S)

    def doomed(self, entries: Sequence[LogEntry]) -> int:
        """Write records and have the broker delete everything there is; returns how many offsets nobody has read.

        Whoever reads has read everything up to now, and does not run.
        """
        before = self.ends()
        producer = self._producer("none")
        for entry in entries:
            self._produce(producer, entry)
        self._flush(producer)
        after = self.ends()
        admin = AdminClient(self._options)
        gone = [TopicPartition(self._topics[t], p, end) for (t, p), end in after.items() if end]
        for done in admin.delete_records(gone).values():
            done.result(_TIMEOUT_S)
        return sum(end - before[tp] for tp, end in after.items())

    def ends(self) -> dict[tuple[int, int], int]:
        """(topic index, partition) -> first offset that is not written yet, markers included."""
        consumer = Consumer(self._options | {"group.id": f"chaos-{uuid4().hex}"})
        try:
            found = {}
            for t, topic in enumerate(self._topics):
                for p in self._partitions:
                    _, high = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=_TIMEOUT_S)
                    # An embedded broker may tell less than there is.
                    found[t, p] = max(high, self._last.get((t, p), -1) + 1)
            return found
        finally:
            consumer.close()

    def _producer(self, codec: str, *, transactional: bool = False) -> Producer:
        name = f"{codec}{transactional}"
        if name not in self._producers:
            options = self._options | {"compression.type": codec, "linger.ms": 5, "enable.idempotence": True}
            if transactional:
                options["transactional.id"] = f"chaos-{uuid4().hex}"
            self._producers[name] = Producer(options)
            if transactional:
                self._producers[name].init_transactions(_TIMEOUT_S)
        return self._producers[name]

    def _produce(self, producer: Producer, entry: LogEntry) -> None:
        while True:
            try:
                producer.produce(
                    self._topics[entry.topic], entry.value, entry.key, entry.partition, on_delivery=self._delivered
                )
            except BufferError:
                producer.poll(0.05)
            else:
                producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error is None and topic is not None and partition is not None and offset is not None:
            tp = self._topics.index(topic), partition
            self._last[tp] = max(self._last.get(tp, -1), offset)

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(_TIMEOUT_S)
        if left:
            raise BrokerRefusedError(f"the broker did not take {left} records within {_TIMEOUT_S:.0f} s")

    def _keep(self, entry: LogEntry) -> None:
        self.records.append(Record(entry.topic, entry.partition, len(self.records), entry.value))
