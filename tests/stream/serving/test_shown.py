"""What was served and then shown is written to Kafka as an impression, with what it was decided by."""

import logging
import time

import msgspec
import pytest
from support.serving import CONTEXT, ITEM

from stream.events import Impression, Served, decode_event
from stream.kafka.topics import ensure_topics
from stream.partitioning import partition_of
from stream.sections import KafkaSettings
from stream.serving.forms import Answer, Missing, Scored
from stream.serving.packing import Candidate
from stream.serving.service import Request
from stream.serving.shown import Memory, ShownLog
from stream.settings import Settings


def asked(user_id: str, num_candidates: int) -> Request:
    features = {**ITEM, "undeclared": {"x": 1}, "year": None}
    return Request(user_id, CONTEXT, [Candidate(f"i{n}", features) for n in range(num_candidates)])


def answer(name: str, places: list[int], version: int = 12, **more: object) -> Answer:
    other = 0.5 if "other_version" in more else None
    scores = [Scored(f"i{n}", f"{name}-{n}", 0.25 + n / 100, -1.0, {}, other) for n in places]
    given = {"version": version, "variant": "live", "task": "like", "cohort": "0", "degraded": False, **more}
    return Answer(**given, missing=Missing(), scores=scores)


def impressions(kafka: KafkaSettings, count: int) -> list[tuple[int, Impression]]:
    """Partition and event of so many records, once they are there."""
    from kafka import KafkaConsumer, TopicPartition

    reader = KafkaConsumer(bootstrap_servers=kafka.url, auto_offset_reset="earliest", enable_auto_commit=False)
    reader.assign([TopicPartition(kafka.impressions, p) for p in range(kafka.partitions)])
    found: list[tuple[int, Impression]] = []
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline
        for records in reader.poll(200).values():
            for record in records:
                event = decode_event(record.value)
                assert isinstance(event, Impression)
                assert record.key == event.user_id.encode()
                found.append((record.partition, event))
    reader.close()
    return found


def test_impressions_carry_what_they_were_decided_by(settings: Settings, embedded_broker: str) -> None:
    live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker))
    ensure_topics(live.kafka)
    log = ShownLog(live, logging.getLogger("test"))
    log.remember(asked("u1", 4), answer("a", [0, 1, 2, 3]), range(4))
    beside = {"variant": "rival", "canary": True, "other_version": 9}
    log.remember(asked("u2", 9), answer("b", [7, 2], version=13, **beside), [7, 2])
    assert log.show(["b-7", "b-2"], 5_000) == []
    assert log.show(["a-3", "a-0", "a-4", "c-1", "b-5", "b", ""], None) == ["a-4", "c-1", "b-5", "b", ""]
    assert log.show(["b-7"], 9_999) == [], "a retry"
    log.close()
    assert (log.num_written, log.num_lost) == (5, 0)
    found = impressions(live.kafka, 5)
    assert all(partition == partition_of(event.user_id, 2) for partition, event in found)
    by_id = {event.imp_id: event for _, event in found}
    assert set(by_id) == {"a-0", "a-3", "b-2", "b-7"}
    assert len({(e.imp_id, e.ts, e.position) for _, e in found}) == 4, "a retry is the same event"
    seven = by_id["b-7"]
    assert (seven.user_id, seven.item_id, seven.ts, seven.position) == ("u2", "i7", 5_000, 0)
    by = {"version": 13, "arm": "rival", "canary": True, "other": 0.5, "other_version": 9}
    assert seven.served == Served(probability=pytest.approx(0.32), **by)
    assert by_id["a-3"].served == Served(probability=pytest.approx(0.28), version=12)
    assert seven.features == {**CONTEXT, **{name: value for name, value in ITEM.items() if name != "year"}}
    assert abs(by_id["a-3"].ts - time.time() * 1000) < 60_000


def test_the_oldest_answers_are_forgotten() -> None:
    memory = Memory(10)
    for name in "abcd":
        memory.add(asked("u", 4), answer(name, [0, 1, 2, 3]), range(4))
    assert [memory.find(f"{name}-1") is not None for name in "abcd"] == [False, False, True, True]
    memory.add(asked("u", 0), answer("e", []), [])
