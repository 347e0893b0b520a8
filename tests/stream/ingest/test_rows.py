"""What becomes of single records: senseless times, records in the wrong partition, repeated log lines."""

import logging

import pytest

from learner.config import FieldSettings
from learner.samples.columns import of_cores
from learner.samples.layout import Layout
from state_store.config import ActionSettings
from stream.events import Impression, encode_event
from stream.ingest.rows import LogRecord, RowDecoder
from stream.partitioning import partition_of
from stream.process.repeats import Repeats
from stream.sections import EventSettings

NOW = 1_800_000_000_000
TOPIC = "impressions"


def decoder(fields: tuple[FieldSettings, ...]) -> RowDecoder:
    return RowDecoder(TOPIC, fields, ActionSettings(), EventSettings())


def record(offset: int, user: str, produced_ms: int = NOW) -> LogRecord:
    event = Impression(imp_id=f"a{offset}", user_id=user, item_id="i", ts=NOW)
    return LogRecord(offset, encode_event(event), produced_ms)


@pytest.mark.parametrize(
    ("produced", "kept"),
    [
        (NOW, NOW),
        (NOW - 10**10, NOW - 10**10),
        (NOW + 60_000, NOW + 60_000),
        (-1, 0),
        (0, 0),
        (NOW // 1000, 0),
        (NOW * 1000, 0),
    ],
)
def test_a_record_that_was_written_at_a_senseless_time_has_no_age(
    fields: tuple[FieldSettings, ...], produced: int, kept: int
) -> None:
    decoded = decoder(fields).decode(TOPIC, 0, [record(0, "u", produced)], NOW)
    samples = of_cores(decoded.cores, Layout(fields, ActionSettings().names))
    assert samples.rows_B["produced_ms"].tolist() == [kept]


@pytest.mark.parametrize("version", [0, 2**53, 2**63, 2**64, 10**400], ids=["0", "2^53", "2^63", "2^64", "10^400"])
def test_a_version_that_no_column_holds_is_a_dead_letter(fields: tuple[FieldSettings, ...], version: int) -> None:
    said = b'"imp_id":"a","user_id":"u","item_id":"i","ts":%d,"served":{"probability":1,"version":%d}'
    given = b'{"type":"impression",' + said + b"}"
    sent = [LogRecord(0, given % (NOW, version), NOW), record(1, "u")]
    decoded = decoder(fields).decode(TOPIC, 0, sent, NOW)
    assert [(dead.offset, "version" in dead.reason) for dead in decoded.dead] == (
        [(0, True)] if version > 2**53 else []
    )
    samples = of_cores(decoded.cores, Layout(fields, ActionSettings().names))
    assert samples.rows_B["served_version"].tolist() == ([-1] if version > 2**53 else [version, -1])


@pytest.mark.parametrize("way", ["count", "refuse", "reroute"])
def test_every_misplaced_record_is_found_in_batches_of_any_size(fields: tuple[FieldSettings, ...], way: str) -> None:
    users, sent = [f"u{n}" for n in range(1000)], []
    limits = EventSettings(misplaced=way)
    decode = RowDecoder(
        TOPIC, fields, ActionSettings(), limits, num_partitions=4, reroute=lambda *record: sent.append(record)
    ).decode
    wrong = [user for user in users if partition_of(user, 4) != 1]
    for size in (1, 7, 256, 1000):
        found = [
            decode(TOPIC, 1, [record(n, u) for n, u in enumerate(users[at : at + size])], NOW)
            for at in range(0, 1000, size)
        ]
        assert sum(decoded.num_misplaced for decoded in found) == len(wrong)
        assert sum(len(decoded.dead) for decoded in found) == (len(wrong) if way == "refuse" else 0)
    assert [(p, user) for _, p, user, _ in sent[: len(wrong)]] == (
        [(partition_of(user, 4), user) for user in wrong] if way == "reroute" else []
    )


def test_a_thousand_lines_about_one_condition_are_one_line_a_minute() -> None:
    seconds = 0.0
    repeats, passed = Repeats(clock=lambda: seconds), []
    for n in range(1000):
        seconds = n * 0.2
        line = logging.LogRecord("aiokafka", logging.ERROR, "f.py", 7, "node %s is away: %d", ("k1", n), None)
        if repeats.filter(line):
            passed.append(line.getMessage())
            summed_up = line
    assert len(passed) == 4
    assert passed[0] == "node k1 is away: 0"
    assert "299 more such lines in the last 60 s" in passed[1]
    # mode, Faust's base, formats a line by its arguments once more.
    assert summed_up.args == ()
    info = logging.LogRecord("coldstream", logging.INFO, "f.py", 7, "assigned", None, None)
    assert repeats.filter(info)
    assert repeats.filter(info)
