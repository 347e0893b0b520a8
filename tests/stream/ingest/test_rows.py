"""What becomes of single records: senseless times, records in the wrong partition, repeated log lines."""

import logging

import msgspec
import pytest

from learner.config import FieldSettings
from state_store.config import ActionSettings
from stream.events import Impression, encode_event
from stream.ingest.placement import Placement
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
    assert msgspec.msgpack.decode(decoded.cores[0])[4] == kept


def test_every_misplaced_record_of_small_batches_is_found() -> None:
    placement = Placement(4)
    users = [f"u{n}" for n in range(1000)]
    found = 0
    for at in range(0, 1000, 10):
        placement.begin(0, 10)
        found += sum(placement.misplaced_from(0, n, user) is not None for n, user in enumerate(users[at : at + 10]))
    assert found == sum(partition_of(user, 4) != 0 for user in users)


def test_large_batches_are_sampled_until_one_is_found_and_then_looked_at_whole() -> None:
    at_home = [user for user in map(str, range(2000)) if partition_of(user, 4) == 0][:256]
    away = next(user for user in map(str, range(2000)) if partition_of(user, 4) != 0)
    placement = Placement(4)

    def found(users: list[str]) -> int:
        placement.begin(0, len(users))
        return sum(placement.misplaced_from(0, n, user) is not None for n, user in enumerate(users))

    assert found(at_home) == 0
    # Every sixteenth is looked at: one at place 1 is not, one at place 16 is, and whatever comes behind it.
    assert found([at_home[0], away, *at_home[2:]]) == 0
    assert found([*at_home[:16], away, away, *at_home[18:]]) == 2
    assert found([at_home[0], away, *at_home[2:]]) == 1


def test_a_thousand_lines_about_one_condition_are_one_line_a_minute() -> None:
    seconds = 0.0
    repeats, passed = Repeats(clock=lambda: seconds), []
    for n in range(1000):
        seconds = n * 0.2
        line = logging.LogRecord("aiokafka", logging.ERROR, "f.py", 7, "node %s is away: %d", ("k1", n), None)
        if repeats.filter(line):
            passed.append(line.getMessage())
    assert len(passed) == 4
    assert passed[0] == "node k1 is away: 0"
    assert "299 more such lines in the last 60 s" in passed[1]
    info = logging.LogRecord("coldstream", logging.INFO, "f.py", 7, "assigned", None, None)
    assert repeats.filter(info)
    assert repeats.filter(info)
