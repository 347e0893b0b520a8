"""Writes a replay to Kafka, at a chosen speed.

On librdkafka: with kafka-python, which is enough for tools, the producer is what limits a replay
(`coldstream bench producers`).
"""

import logging
import time
from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from simulators.controls import Controls
from simulators.encoding import LogEntry
from simulators.pace import Pace, PaceSettings
from state_store.errors import OperatorError
from stream.kafka.security import librdkafka_options, tls_problem
from stream.kafka.topics import BrokerUnavailableError
from stream.sections import KafkaSettings

_CHECK_EVERY = 500
_WAIT_S = 0.01
_ASK_AGAIN_S = 0.05
_LONGEST_SLEEP_S = 0.1
_CONNECT_S = 4.0
_DELIVERY_S = 120.0
_OPTIONS = {
    # Each record once and in order, whatever is sent again.
    "enable.idempotence": True,
    "acks": "all",
    # What it tries again is no news; what fails is told by `NotWrittenError`.
    "log_level": 3,
    "linger.ms": 10,
    "batch.size": 1 << 20,
    "message.timeout.ms": round(_DELIVERY_S * 1000),
}


_Told = Callable[[KafkaError | None, Message], None]


class NotWrittenError(OperatorError):
    """The broker did not take a record."""


class ReplayProducer:
    """Writes log entries, waiting when it is ahead of its pace.

    Args:
        kafka: broker and topics.
        pace: the speed.
        in_flight: how many of the `sent` events are still in the pipeline; asked the more often, the closer it is to
            what `pace` allows.
        controls: pause it, if anybody may.

    Raises:
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        pace: PaceSettings,
        in_flight: Callable[[int], int] | None = None,
        controls: Controls | None = None,
    ) -> None:
        self._topics = (kafka.impressions, kafka.feedback)
        self._pace = pace
        self._in_flight = in_flight
        self._controls = controls or Controls()
        self._complaint = ""
        self._failure: KafkaError | None = None
        self._ends: dict[tuple[int, int], int] = {}
        self._told: dict[tuple[int, int], _Told] = {}
        """What each topic partition's deliveries are told: its number need not be asked of every record."""
        self._ask_at = 0
        self._producer = self._connect(kafka)
        self.num_sent = 0

    def _connect(self, kafka: KafkaSettings) -> Producer:
        options = librdkafka_options(kafka) | _OPTIONS | {"compression.type": kafka.compression}
        producer = Producer(options, error_cb=self._complained, logger=logging.getLogger(__name__))
        try:
            producer.list_topics(timeout=_CONNECT_S)
        except KafkaException as exc:
            producer.poll(0)
            reason = tls_problem(kafka) or self._complaint or str(exc)
            raise BrokerUnavailableError(
                f"kafka.url {kafka.url!r}: no broker answers there ({reason}); start Kafka or correct the address"
            ) from exc
        return producer

    def write(self, entries: Iterable[LogEntry], on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Write entries in order; returns when the broker has them all.

        Args:
            entries: to write.
            on_progress: called with the number of events written, every few hundred, and while it waits.

        Raises:
            NotWrittenError: the broker did not take one.
        """
        # Read each time: the first entry may be long in the making.
        pace: Pace | None = None
        is_paced = bool(self._pace.events_per_s or self._pace.speed)
        for number, entry in enumerate(entries):
            if pace is None:
                pace = Pace(self._pace, time.monotonic())
            if is_paced or self._controls.is_paused:
                self._wait(pace, number, entry.written_ms, on_progress)
            self._produce(entry)
            self.num_sent += 1
            if self.num_sent % _CHECK_EVERY == 0:
                self._check()
                on_progress(self.num_sent)
                self._wait_for_the_pipeline(on_progress)
        self._flush()

    def _produce(self, entry: LogEntry) -> None:
        where = entry.topic, entry.partition
        told = self._told.get(where) or self._delivered_to(where)
        while True:
            try:
                self._producer.produce(
                    self._topics[entry.topic], entry.value, entry.key, entry.partition, on_delivery=told
                )
            except BufferError:
                # Full: it has more than the broker takes meanwhile.
                self._producer.poll(_WAIT_S)
                self._check()
            except KafkaException as exc:
                self._failure = exc.args[0]
                self._check()
            else:
                return

    def _wait(self, pace: Pace, number: int, written_ms: float, on_progress: Callable[[int], None]) -> None:
        """Until an event is due, and nobody has paused the replay."""
        while True:
            if self._controls.is_paused:
                pace.stand_still(self._stand_still(on_progress))
            left = pace.due_s(number, written_ms) - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _LONGEST_SLEEP_S))
            if left > _LONGEST_SLEEP_S:
                self._check()
                on_progress(self.num_sent)

    def _stand_still(self, on_progress: Callable[[int], None]) -> float:
        """While the replay is paused, with all that it wrote at the broker; returns for how long, seconds."""
        began = time.monotonic()
        self._flush()
        while not self._controls.wait(_LONGEST_SLEEP_S):
            on_progress(self.num_sent)
        return time.monotonic() - began

    def _wait_for_the_pipeline(self, on_progress: Callable[[int], None]) -> None:
        most = self._pace.in_flight
        if not most or self._in_flight is None or self.num_sent < self._ask_at:
            return
        while (waiting := self._in_flight(self.num_sent)) > most:
            time.sleep(_ASK_AGAIN_S)
            on_progress(self.num_sent)
        # An event may become several samples, so not all of the room is there to be filled.
        self._ask_at = self.num_sent + (most - waiting) // 2

    # What the broker says ---------------------------------------------------------------------------------------

    def _delivered_to(self, where: tuple[int, int]) -> "_Told":
        """Told of each record of a topic partition that the broker has, or does not take."""
        ends = self._ends

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                ends[where] = message.offset()  # type: ignore[assignment]
            else:
                self._failure = self._failure or error

        self._told[where] = delivered
        return delivered

    def _complained(self, error: KafkaError) -> None:
        self._complaint = self._complaint or error.str()

    def _check(self) -> None:
        self._producer.poll(0)
        if self._failure is not None:
            raise NotWrittenError(
                f"the broker did not take a record ({self._failure.str()}"
                + (f"; {self._complaint}" if self._complaint else "")
                + "); see whether it runs, and whether the topics may be written"
            )

    def _flush(self) -> None:
        while self._producer.flush(_LONGEST_SLEEP_S):
            self._check()
        self._check()

    def end_offsets(self) -> dict[tuple[int, int], int]:
        """(topic index, partition) -> offset of the last record written there."""
        self._flush()
        return dict(self._ends)

    def close(self) -> None:
        """Write what is left, and release the connections."""
        self._flush()
        self._producer.close()
