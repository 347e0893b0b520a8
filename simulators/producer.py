"""Writes a replay to Kafka, at a chosen speed."""

import time
from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError
from msgspec import Meta

from simulators.replay import LogEntry
from stream.kafka.security import client_options
from stream.kafka.topics import BrokerUnavailableError
from stream.sections import KafkaSettings

_CHECK_EVERY = 500
_WAIT_S = 0.01


class PaceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a replay writes. With neither bound: as fast as it can."""

    events_per_s: Annotated[float, Meta(ge=0)] = 0.0
    """0: no fixed rate."""
    in_flight: Annotated[int, Meta(ge=0)] = 0
    """Most events written but not yet learned from, so that the pipeline sets the speed; 0: no bound."""


class ReplayProducer:
    """Writes log entries with kafka-python, waiting when it is ahead of its pace.

    Args:
        kafka: broker and topics.
        pace: the speed.
        in_flight: how many of the `sent` events are still in the pipeline; asked every few hundred events.

    Raises:
        BrokerUnavailableError: nothing answers at `kafka.url`.
    """

    def __init__(self, kafka: KafkaSettings, pace: PaceSettings, in_flight: Callable[[int], int] | None = None) -> None:
        self._topics = (kafka.impressions, kafka.feedback)
        self._pace = pace
        self._in_flight = in_flight
        try:
            self._producer = KafkaProducer(
                **client_options(kafka), linger_ms=10, batch_size=1 << 16, bootstrap_timeout_ms=4000
            )
        except (KafkaError, OSError, ValueError) as exc:
            raise BrokerUnavailableError(
                f"kafka.url {kafka.url!r}: no broker answers there ({exc or type(exc).__name__}); "
                "start Kafka or correct the address"
            ) from exc
        self._last: dict[tuple[int, int], object] = {}
        self.num_sent = 0

    def write(self, entries: Iterable[LogEntry], on_progress: Callable[[int], None] | None = None) -> None:
        """Write entries in order; returns when the broker has them all."""
        started = time.monotonic()
        for entry in entries:
            self._last[entry.topic, entry.partition] = self._producer.send(
                self._topics[entry.topic], value=entry.value, key=entry.key, partition=entry.partition
            )
            self.num_sent += 1
            if self.num_sent % _CHECK_EVERY == 0:
                if on_progress is not None:
                    on_progress(self.num_sent)
                self._wait(started, on_progress)
        self._producer.flush()

    def _wait(self, started: float, on_progress: Callable[[int], None] | None) -> None:
        pace = self._pace
        if pace.events_per_s:
            time.sleep(max(0.0, started + self.num_sent / pace.events_per_s - time.monotonic()))
        while pace.in_flight and self._in_flight is not None and self._in_flight(self.num_sent) > pace.in_flight:
            time.sleep(_WAIT_S)
            if on_progress is not None:
                on_progress(self.num_sent)

    def end_offsets(self) -> dict[tuple[int, int], int]:
        """(topic index, partition) -> offset of the last record written there."""
        return {tp: future.get(timeout=30).offset for tp, future in self._last.items()}  # type: ignore[attr-defined]

    def close(self) -> None:
        """Release the connections."""
        self._producer.close()
