"""Faults by choice: each does what it says, alone; and the pipeline comes to what the oracle expects of them."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.logs import synthetic_log
from support.small_log import small_log

from simulators.encoding import damaged
from simulators.faults import Faults, FaultSettings
from simulators.logs.log import Log
from simulators.oracle import Record, expect
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import BacktestSettings
from simulators.runs.run_backtest import run_backtest
from state_store.config import ActionSettings, JoinSettings
from stream.events import Feedback, Impression, MalformedEventError, decode_event, encode_event
from stream.settings import Settings

JOIN = JoinSettings()
CALM = FaultSettings(duplicates=0, out_of_order=0)
ALL = {
    "late": 0.03,
    "lost_feedback": 0.1,
    "skewed_clocks": 0.2,
    "malformed": 0.03,
    "bursts": 0.3,
}


def records(log: Log, faults: FaultSettings, seed: int = 7) -> list[bytes]:
    how = ReplaySettings(faults=faults, seed=seed)
    return [entry.value for entry in Replay(log, how, 4, JOIN).entries()]


def with_faults(**shares: float) -> FaultSettings:
    return msgspec.structs.replace(FaultSettings(), **shares)


def test_no_fault_changes_what_another_one_draws() -> None:
    """Whatever else is on, the same events are late, lost, damaged, doubled and skewed."""
    log = synthetic_log(5000, seed=1)
    everything, plain = records(log, with_faults(**ALL)), records(log, FaultSettings())
    assert records(log, with_faults(bursts=0.3)) == plain
    # What is lost is missing, and nothing else.
    with_loss = Counter(records(log, with_faults(lost_feedback=0.1)))
    assert not with_loss - Counter(plain)
    lost = Counter(plain) - with_loss
    assert all(isinstance(decode_event(value), Feedback) for value in lost)
    feedback = sum(isinstance(decode_event(value), Feedback) for value in plain)
    assert lost.total() / feedback == pytest.approx(0.1, abs=0.02)
    # Late events are the same events in another order.
    late = records(log, with_faults(late=0.03))
    assert Counter(late) == Counter(plain)
    assert late != plain
    # Clocks and damage: as without the other faults.
    alone = Counter(records(log, with_faults(malformed=0.03))) - Counter(plain)
    assert alone.total() / len(plain) == pytest.approx(0.03, abs=0.01)
    without_clocks = Counter(records(log, with_faults(**{**ALL, "skewed_clocks": 0.0})))
    assert not (without_clocks - Counter(plain)) - alone
    assert sum(is_malformed(value) for value in everything) == sum(
        n for value, n in without_clocks.items() if is_malformed(value)
    )


def is_malformed(value: bytes) -> bool:
    try:
        decode_event(value)
    except MalformedEventError:
        return True
    return False


def test_late_events_are_written_later_than_is_allowed() -> None:
    log = synthetic_log(20_000, seed=2)
    how = ReplaySettings(faults=msgspec.structs.replace(CALM, late=0.05))
    entries = list(Replay(log, how, 4, JOIN).entries())
    behind = np.array([entry.written_ms - decode_event(entry.value).ts for entry in entries])
    late = behind > JOIN.lateness_ms
    assert late.mean() == pytest.approx(0.05, abs=0.01)
    assert behind.max() <= 2 * JOIN.lateness_ms
    assert (behind[~late] == 0).all()


def test_a_users_clock_is_wrong_by_the_same_time_in_every_event() -> None:
    log = synthetic_log(10_000, seed=3)
    faults = msgspec.structs.replace(CALM, skewed_clocks=0.3, skew_s=100)
    rows = next(log.stretches())
    shown = dict(zip(rows["imp_id"], rows["ts"], strict=True))
    errors: dict[str, set[int]] = {}
    for value in records(log, faults):
        event = decode_event(value)
        if isinstance(event, Impression):
            errors.setdefault(event.user_id, set()).add(event.ts - shown[event.imp_id])
    assert all(len(found) == 1 for found in errors.values())
    wrong = [found for (found,) in errors.values() if found]
    assert len(wrong) / len(errors) == pytest.approx(0.3, abs=0.06)
    assert -100_000 <= min(wrong) < -50_000 < 50_000 < max(wrong) <= 100_000


def test_bursts_hold_back_and_write_at_once() -> None:
    log = synthetic_log(10_000, seed=4)
    plain, held = (
        list(Replay(log, ReplaySettings(faults=msgspec.structs.replace(CALM, bursts=share)), 4, JOIN).entries())
        for share in (0.0, 0.25)
    )
    assert [entry.value for entry in plain] == [entry.value for entry in held], "the order stays"
    waited = np.array([b.written_ms - a.written_ms for a, b in zip(plain, held, strict=True)])
    assert ((waited >= 0) & (waited <= 60_000)).all()
    assert (waited > 0).mean() == pytest.approx(0.25, abs=0.08)
    times = np.array([entry.written_ms for entry in held])
    assert (np.diff(times) >= 0).all()
    assert (times[waited > 0] % 60_000 == 0).all()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.integers(1, 1 << 40), TEXT, TEXT, st.booleans())
def test_a_damaged_record_is_no_event_to_the_worker_nor_to_the_oracle(
    damage: int, user: str, item: str, is_impression: bool
) -> None:
    ids = {"imp_id": user + item, "user_id": user, "item_id": item, "ts": 1_650_000_000_000}
    event = Impression(**ids, features={item: user}) if is_impression else Feedback(**ids, action=item)
    value = damaged(encode_event(event), damage)
    assert is_malformed(value)
    found = expect([Record(0, 0, 0, value)], JOIN, ActionSettings())
    assert found.counts == Counter(malformed=1)


def test_records_are_damaged_in_several_ways() -> None:
    log = synthetic_log(4000, seed=5)
    kinds: Counter[str] = Counter()
    for value in records(log, with_faults(malformed=0.1)):
        if is_malformed(value):
            kinds[kind_of_damage(value)] += 1
    assert set(kinds) == {"cut", "a string", "a key missing", "not UTF-8"}
    assert min(kinds.values()) > 0.15 * kinds.total()


def kind_of_damage(value: bytes) -> str:
    try:
        found = json.loads(value)
    except UnicodeDecodeError:
        return "not UTF-8"
    except ValueError:
        return "cut"
    return "a string" if isinstance(found, str) else "a key missing"


def test_a_clock_follows_from_user_and_seed() -> None:
    settings = FaultSettings(skewed_clocks=0.5)
    clocks = [Faults(settings, seed, 60_000) for seed in (1, 1, 2)]
    first, same, other = ([clock.clock_skew_ms(f"u{n}") for n in range(50)] for clock in clocks)
    assert first == same != other


# Against the oracle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*ALL, "all of them"])
def test_a_backtest_with_faults_comes_to_the_oracles_totals(settings: Settings, tmp_path: Path, fault: str) -> None:
    shares = ALL if fault == "all of them" else {fault: ALL[fault]}
    how = ReplaySettings(faults=with_faults(**shares))
    log = synthetic_log(4000, seed=3)
    summary = run_backtest(settings, log, how, tmp_path, BacktestSettings())
    assert summary["counts_match"], summary["count_differences"]
    samples = summary["samples"]
    if fault in ("late", "malformed", "skewed_clocks", "all of them"):
        assert samples["dead_letter"] > 50
    if fault in ("malformed", "all of them"):
        assert samples["orphan"] > 10, "feedback to impressions that were none"


def test_so_does_a_log_with_several_actions_and_all_faults(settings: Settings, tmp_path: Path) -> None:
    log = small_log(4000, later_rows=True)
    actions = ActionSettings(names=("click", "buy", "watch"), positive=("buy",))
    mine = msgspec.structs.replace(settings, actions=actions)
    how = ReplaySettings(faults=with_faults(**ALL))
    summary = run_backtest(mine, log, how, tmp_path, BacktestSettings())
    assert summary["counts_match"], summary["count_differences"]
    # A few clocks that run ahead make most of the others late.
    assert summary["samples"]["positive"] > 50
    assert summary["samples"]["dead_letter"] > 500
    assert summary["log"] == "small"
    assert summary["rows"] == 4000
