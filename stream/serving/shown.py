"""The loop closed: what was served and then shown becomes an impression in Kafka, with what it was decided by."""

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from stream.arms.settings import LIVE
from stream.events import Impression, Served, encode_event
from stream.kafka.security import librdkafka_options
from stream.partitioning import partition_of
from stream.process.weather import Weather
from stream.sections import ServingSettings
from stream.serving.forms import Answer, Scored
from stream.serving.service import Request
from stream.settings import Settings

_OPTIONS = {
    "enable.idempotence": True,
    "acks": "all",
    # What it tries again is no news; what fails is counted and told.
    "log_level": 3,
    "linger.ms": 5,
    "message.timeout.ms": 120_000,
}
_STEP = "impressions"
_FLUSH_S = 3.0


class _Served(msgspec.Struct):
    """An answer, for as long as it is remembered."""

    request: Request
    answer: Answer
    scores: dict[int, Scored]
    """By the candidate's place in the request."""
    shown: dict[int, bytes] = {}
    """Events that were written: whoever says twice that it was shown writes the same event twice."""


class Memory:
    """What was answered last, by impression id.

    Args:
        limit: candidates remembered; the oldest answers go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._served: OrderedDict[str, _Served] = OrderedDict()

    def add(self, request: Request, answer: Answer, places: Sequence[int]) -> None:
        """Remember an answer."""
        if not answer.scores:
            return
        name = answer.scores[0].imp_id.rpartition("-")[0]
        self._served[name] = _Served(request, answer, dict(zip(places, answer.scores, strict=True)))
        self._size += len(answer.scores)
        while self._size > self._limit:
            _, oldest = self._served.popitem(last=False)
            self._size -= len(oldest.scores)

    def find(self, imp_id: str) -> tuple[_Served, int] | None:
        """The answer that an id is of, and the candidate's place in it."""
        name, _, place = imp_id.rpartition("-")
        served = self._served.get(name)
        if served is None or not place.isdecimal() or int(place) not in served.scores:
            return None
        return served, int(place)


class ShownLog:
    """Writes impressions.

    Args:
        settings: effective settings; `kafka.url` is set.
        log: where it is told what Kafka does not take.
    """

    def __init__(self, settings: Settings, log: logging.Logger) -> None:
        serving: ServingSettings = settings.serving
        self._topic, self._num_partitions = settings.kafka.impressions, settings.kafka.partitions
        self._fields = {field.name for field in settings.fields}
        self._memory = Memory(serving.remember)
        self._weather = Weather(log)
        compression = {"compression.type": settings.kafka.compression}
        self._producer = Producer(librdkafka_options(settings.kafka) | _OPTIONS | compression, logger=log)
        self.num_written = 0
        self.num_lost = 0

    def remember(self, request: Request, answer: Answer, places: Sequence[int]) -> None:
        """Keep an answer, of which some may be shown."""
        self._memory.add(request, answer, places)

    def show(self, imp_ids: Sequence[str], ts: int | None) -> list[str]:
        """Write the impressions of what was shown, in this order; returns the ids that are not remembered.

        Args:
            imp_ids: of the scores.
            ts: event time, ms; now if it is None.
        """
        now_ms = time.time_ns() // 1_000_000 if ts is None else ts
        unknown = []
        for position, imp_id in enumerate(imp_ids):
            found = self._memory.find(imp_id)
            if found is None:
                unknown.append(imp_id)
                continue
            served, place = found
            event = served.shown.get(place)
            if event is None:
                event = served.shown[place] = encode_event(self._impression(served, place, position, now_ms))
            self._write(served.request.user_id, event)
        self._producer.poll(0)
        return unknown

    def poll(self) -> None:
        """Hear what has become of what was written; to be called every so often."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait a moment for what is under way."""
        self.num_lost += self._producer.flush(_FLUSH_S)

    def _impression(self, served: _Served, place: int, position: int, ts: int) -> Impression:
        answer, scored, candidate = served.answer, served.scores[place], served.request.candidates[place]
        given: Mapping[str, Any] = {**served.request.context, **candidate.features}
        return Impression(
            imp_id=scored.imp_id,
            user_id=served.request.user_id,
            item_id=scored.item,
            ts=ts,
            features={name: value for name, value in given.items() if name in self._fields and value is not None},
            position=position,
            served=Served(
                probability=scored.probability,
                version=answer.version,
                arm="" if answer.variant == LIVE else answer.variant,
                canary=answer.canary,
                other=scored.other,
                other_version=answer.other_version,
            ),
        )

    def _write(self, user_id: str, event: bytes) -> None:
        partition = partition_of(user_id, self._num_partitions)
        try:
            self._producer.produce(
                self._topic, event, key=user_id.encode(), partition=partition, on_delivery=self._delivered
            )
        except BufferError:
            self._lost("too many wait for Kafka")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._lost(str(error))
            return
        self.num_written += 1
        self._weather.passed(_STEP)

    def _lost(self, why: str) -> None:
        self.num_lost += 1
        self._weather.failed(_STEP, f"an impression was not written: {why}")
