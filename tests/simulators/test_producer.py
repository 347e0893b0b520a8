"""Writing a replay to Kafka: whole and in order, at its pace, paused and resumed."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer
from support.logs import synthetic_log

from simulators.controls import Controls
from simulators.encoding import LogEntry
from simulators.log_reader import read_log
from simulators.pace import Pace, PaceSettings
from simulators.producer import NotWrittenError, ReplayProducer
from simulators.replay import Replay, ReplaySettings
from state_store.config import JoinSettings
from stream.events import decode_event
from stream.kafka.topics import BrokerUnavailableError, ensure_topics
from stream.sections import KafkaSettings

_numbers = count()


def topics(url: str) -> KafkaSettings:
    name = f"producer-{os.getpid()}-{next(_numbers)}"
    kafka = KafkaSettings(
        url=url, impressions=name, feedback=f"{name}-f", dead_letter=f"{name}-d", weights=f"{name}-w", partitions=3
    )
    ensure_topics(kafka)
    return kafka


def written(kafka: KafkaSettings, ends: dict[tuple[int, int], int]) -> dict[tuple[int, int], list[bytes]]:
    found: dict[tuple[int, int], list[bytes]] = {}
    for record in read_log(kafka, ends):
        found.setdefault((record.topic, record.partition), []).append(record.value)
    return found


def by_partition(entries: list[LogEntry]) -> dict[tuple[int, int], list[bytes]]:
    found: dict[tuple[int, int], list[bytes]] = {}
    for entry in entries:
        found.setdefault((entry.topic, entry.partition), []).append(entry.value)
    return found


def test_every_record_is_written_once_in_order_where_it_belongs(broker: str) -> None:
    kafka = topics(broker)
    entries = list(Replay(synthetic_log(8000, seed=1), ReplaySettings(), 3, JoinSettings()).whole_log())
    producer, told = ReplayProducer(kafka, PaceSettings()), []
    producer.write(entries[:5000], told.append)
    assert sum(end + 1 for end in producer.end_offsets().values()) == 5000
    producer.write(entries[5000:], told.append)
    ends = producer.end_offsets()
    producer.close()
    assert producer.num_sent == len(entries)
    assert told == list(range(500, len(entries) + 1, 500))
    assert {tp: end + 1 for tp, end in ends.items()} == {tp: len(v) for tp, v in by_partition(entries).items()}
    assert written(kafka, ends) == by_partition(entries)


def test_a_record_that_the_broker_refuses_is_an_error(apache_kafka: str) -> None:
    kafka = topics(apache_kafka)
    producer = ReplayProducer(kafka, PaceSettings())
    with pytest.raises(NotWrittenError, match="did not take a record"):
        producer.write([LogEntry(0, 17, b"u", b"to a partition that is not there")])


def test_nobody_at_the_address_is_an_error() -> None:
    with pytest.raises(BrokerUnavailableError, match=r"kafka\.url '127.0.0.1:9'"):
        ReplayProducer(KafkaSettings(url="127.0.0.1:9"), PaceSettings())


# Pace ---------------------------------------------------------------------------------------------------------------


def timed(kafka: KafkaSettings, pace: PaceSettings, entries: list[LogEntry]) -> np.ndarray:
    """Seconds from the first to each event, as they are handed to the producer."""
    taken: list[float] = []

    def watched() -> Iterator[LogEntry]:
        for entry in entries:
            yield entry
            # Asked for the next one: this one is written.
            taken.append(time.monotonic())

    producer = ReplayProducer(kafka, pace)
    producer.write(watched())
    producer.close()
    return np.array(taken) - taken[0]


def test_at_a_speed_every_event_is_written_at_its_time(embedded_broker: str) -> None:
    """The least delays are what the pace decides; greater ones are the machine's, and are caught up."""
    entries = list(Replay(synthetic_log(700, seed=2), ReplaySettings(), 3, JoinSettings()).entries())
    wanted = np.array([entry.written_ms - entries[0].written_ms for entry in entries]) / 1000 / 600
    assert 2 < wanted[-1] < 6
    at = timed(topics(embedded_broker), PaceSettings(speed=600), entries)
    late = at - wanted
    assert late.min() > -0.02, "none is early, but for how late the first was"
    assert np.median(late) < 0.05
    assert np.median(late[-100:]) < 0.05, "errors do not add up"


def test_a_rate_is_kept(embedded_broker: str) -> None:
    entries = list(Replay(synthetic_log(600, seed=2), ReplaySettings(), 3, JoinSettings()).entries())
    at = timed(topics(embedded_broker), PaceSettings(events_per_s=500), entries)
    late = at - np.arange(len(entries)) / 500
    assert late.min() > -0.02
    assert np.median(late) < 0.05


def test_what_is_late_is_caught_up() -> None:
    pace = Pace(PaceSettings(speed=10), began_s=100.0)
    assert pace.due_s(0, 5000.0) == 100.0
    assert pace.due_s(1, 6000.0) == pytest.approx(100.1)
    pace.stand_still(7.0)
    assert pace.due_s(2, 7000.0) == pytest.approx(107.2)


# Pause and resume ---------------------------------------------------------------------------------------------------


def test_a_pause_lets_nothing_through_and_time_stands_still(embedded_broker: str) -> None:
    kafka, controls = topics(embedded_broker), Controls()
    entries = [LogEntry(0, 0, b"u", b"%d" % n, 10.0 * n) for n in range(300)]
    producer = ReplayProducer(kafka, PaceSettings(speed=3), controls=controls)
    paused_at = 0

    def watched() -> Iterator[LogEntry]:
        for n, entry in enumerate(entries):
            if n == 100:
                controls.pause()
            yield entry

    def resume_after_a_while(sent: int) -> None:
        nonlocal paused_at
        if controls.is_paused:
            paused_at = paused_at or sent
            assert sent == paused_at == 100
            assert producer.end_offsets() == {(0, 0): 99}
            if time.monotonic() - began > 1.5:
                controls.resume()

    began = time.monotonic()
    producer.write(watched(), resume_after_a_while)
    assert paused_at == 100
    assert producer.end_offsets() == {(0, 0): 299}
    # A second's worth of events, and the time of the pause, but for the third of a second before it.
    assert time.monotonic() - began > 1.5 + 0.6
    producer.close()


COMMAND = [sys.executable, "-m", "stream.command.cli", "replay", "--log", "synthetic", "--json"]


@contextmanager
def running(kafka: KafkaSettings, *options: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    given = [f"kafka.{name}={getattr(kafka, name)}" for name in ("impressions", "feedback", "dead_letter", "weights")]
    sets = [word for value in [*given, "kafka.partitions=3"] for word in ("--set", value)]
    process = subprocess.Popen(
        [*COMMAND, "--kafka", kafka.url, *sets, *options],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def num_written(kafka: KafkaSettings, enough: int | None = None) -> int:
    """Records in the topics, read from the beginning until no more come, or until there are enough."""
    consumer = KafkaConsumer(
        kafka.impressions,
        kafka.feedback,
        bootstrap_servers=kafka.url,
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=1000,
    )
    try:
        return sum(1 for _ in islice(consumer, enough))
    finally:
        consumer.close()


def wait_for(kafka: KafkaSettings, least: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while num_written(kafka, least) < least:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
    assert process.poll() is None


def check_that_it_stands_still(kafka: KafkaSettings) -> int:
    time.sleep(0.5)
    before = num_written(kafka)
    time.sleep(1.0)
    assert num_written(kafka) == before
    return before


def outcome(process: subprocess.Popen[str]) -> dict[str, float]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found: dict[str, float] = json.loads(out.strip().splitlines()[-1])
    return found


@pytest.mark.slow
def test_signals_pause_and_resume_a_replay(embedded_broker: str) -> None:
    kafka = topics(embedded_broker)
    with running(kafka, "--events", "2000", "--rate", "300") as process:
        wait_for(kafka, 100, process)
        process.send_signal(signal.SIGUSR1)
        before = check_that_it_stands_still(kafka)
        process.send_signal(signal.SIGUSR2)
        report = outcome(process)
    assert before < num_written(kafka) == report["events_produced"]
    assert report["rows"] == 2000


@pytest.mark.slow
def test_the_space_bar_pauses_and_resumes_a_replay(embedded_broker: str) -> None:
    kafka = topics(embedded_broker)
    keyboard, terminal = pty.openpty()
    with running(kafka, "--events", "2000", "--rate", "300", stdin=terminal) as process:
        wait_for(kafka, 100, process)
        os.write(keyboard, b"x ")
        before = check_that_it_stands_still(kafka)
        os.write(keyboard, b" ")
        report = outcome(process)
    assert before < num_written(kafka) == report["events_produced"]
    os.close(keyboard)
    os.close(terminal)


@pytest.mark.slow
def test_a_looped_span_is_written_at_a_speed(embedded_broker: str) -> None:
    kafka = topics(embedded_broker)
    begin = next(synthetic_log(200_000, seed=7).stretches(num_rows=1))["ts"][0]
    options = ["--from", str(begin), "--to", str(begin + 600_000), "--loop", "2", "--gap", "60", "--speed", "400"]
    with running(kafka, *options, "--no-close") as process:
        report = outcome(process)
    # 600 s of event time, a minute, 600 s again.
    assert 2.5 < report["seconds"] < 15
    assert num_written(kafka) == report["events_produced"]
    consumer = KafkaConsumer(
        kafka.impressions, bootstrap_servers=kafka.url, auto_offset_reset="earliest", group_id=None,
        consumer_timeout_ms=1000,
    )  # fmt: skip
    ids = {decode_event(record.value).imp_id for record in consumer}
    consumer.close()
    first = {i for i in ids if "#" not in i}
    assert ids == first | {f"{i}#2" for i in first}
    assert len(ids) == report["rows"]


def test_a_rate_and_a_speed_exclude_each_other() -> None:
    with pytest.raises(msgspec.ValidationError, match="exclude each other"):
        msgspec.convert({"events_per_s": 5, "speed": 2}, PaceSettings)
