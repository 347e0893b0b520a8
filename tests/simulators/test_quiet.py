"""Time that goes on where nobody writes."""

import json

import pytest
from support.logs import synthetic_log

from simulators.encoding import LogEntry
from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.quiet import with_quiet_told
from state_store.config import JoinSettings

IDLE_MS = 10_000


@pytest.fixture(scope="module")
def log() -> Log:
    return synthetic_log(2_000, seed=3)


def entries(log: Log) -> list[LogEntry]:
    return list(Replay(log, ReplaySettings(num_rows=2_000, seed=4), 3, JoinSettings()).entries())


def test_no_topic_lags_far_behind_its_partition_and_none_is_told_what_has_not_been(log: Log) -> None:
    plain = entries(log)
    told = list(with_quiet_told(plain, IDLE_MS))
    assert [entry for entry in told if entry.key is not None] == plain
    assert len(told) > len(plain)
    known: dict[tuple[int, int], float] = {}
    for entry in told:
        at = (entry.topic, entry.partition)
        if entry.key is None:
            ts = json.loads(entry.value)["ts"]
            assert known[at] < ts <= entry.written_ms - IDLE_MS
            known[at] = ts
            continue
        for topic in (0, 1):
            lag_ms = entry.written_ms - known.setdefault((topic, entry.partition), entry.written_ms)
            assert lag_ms < 2 * IDLE_MS + 1
        known[at] = entry.written_ms


def test_without_a_time_to_be_quiet_for_nothing_is_told(log: Log) -> None:
    plain = entries(log)
    assert list(with_quiet_told(plain, 0)) == plain
