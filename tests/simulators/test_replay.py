"""A log as an event stream: the same as ever for MovieLens, whole and in order for any log."""

import re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from msgspec import UNSET
from support.logs import movielens_log, synthetic_log
from support.small_log import RULES, START_MS, small_log

from simulators.drift import DriftError
from simulators.encoding import LogEntry
from simulators.faults import FaultSettings
from simulators.logs import log as logs
from simulators.logs.log import FeatureTable, FrameLog, Log
from simulators.replay import EmptyReplayError, Replay, ReplaySettings
from state_store.config import JoinSettings
from stream.events import Feedback, Heartbeat, Impression, Served, decode_event, encode_event
from stream.partitioning import partition_of

CALM = FaultSettings(duplicates=0, out_of_order=0)


def replay(log: Log, **how: object) -> Replay:
    return Replay(log, ReplaySettings(**how), 4, JoinSettings())  # type: ignore[arg-type]


def events(log: Log, **how: object) -> list[Impression | Feedback]:
    return [decode_event(entry.value) for entry in replay(log, **how).entries()]


def digest(entries: Iterator[LogEntry]) -> tuple[int, str]:
    count, found = 0, sha256()
    for entry in entries:
        value = re.sub(rb',"decade":"\d{3}"', b"", entry.value)
        found.update(b"%d %d %s %s\n" % (entry.topic, entry.partition, entry.key or b"-", value))
        count += 1
    return count, found.hexdigest()


# The records of a replay as they were before there were logs but MovieLens: their number, and SHA-256 over topic,
# partition, key and value of each, heartbeats included; without the decade, which films have had since.
DRIFT = {"drift_share": 0.4, "drift_at": 160_000}
LONG = {"delay_median_s": 120.0, "delay_sigma": 1.0}
ROUGH = FaultSettings(jitter_s=90, duplicates=0.05, out_of_order=0.1)
FROZEN = [
    ({}, 1_591_188, "8fe5612040e54f7f19c879f143ed1cb6685c51bd4a788955647a52697967c1cc"),
    ({"num_rows": 200_000}, 321_896, "bc085c23e49af0888fcc05a714335382b3a85c2b02423d59fb174a70c29dc974"),
    ({"num_rows": 10_000, "seed": 5}, 15_701, "0393905cd1c297371f52d27f944249281aecba52eef1fe32f5d63e941e41d3a2"),
    (
        {"num_rows": 150_000, "seed": 5, **DRIFT},
        237_323,
        "87d62250b6081b55b1d63dcfad2d32802ad01d0c7eeb587035de6c2e7660dba6",
    ),
    ({"num_rows": 50_000, "faults": CALM}, 78_928, "30dd451e4c8a25425e247dc40a7bffdbc04f93782bf0cf46a6ef1e32ebc7d2a5"),
    (
        {"num_rows": 50_000, "faults": ROUGH, **LONG},
        82_765,
        "ccb166b0c2f5b240f018558cf81a80dbe0088f80e105088c40002ed019d48b38",
    ),
]


@pytest.mark.parametrize(("how", "count", "expected"), FROZEN)
def test_movielens_is_replayed_bit_for_bit_as_ever(how: dict[str, object], count: int, expected: str) -> None:
    assert digest(replay(movielens_log(), **how).whole_log()) == (count, expected)


@pytest.mark.parametrize(
    ("how", "count", "expected"),
    [
        ({}, 33_540, "f897f07fe9487c840334ded1b4e83b13376080292cfbcc805b9d7368ac66d5c9"),
        (
            {"seed": 3, "drift_at": 4000, "drift_share": 0.4},
            31_018,
            "02786cbc7db3f5cb1153b1f5937024057b857d353f8b9c7f1f37948e6d346500",
        ),
    ],
)
def test_so_is_a_synthetic_log(how: dict[str, object], count: int, expected: str) -> None:
    assert digest(replay(synthetic_log(20_000, seed=3), **how).whole_log()) == (count, expected)


def test_a_replay_follows_its_settings_and_its_seed() -> None:
    log = synthetic_log(20_000, seed=1)
    rough = FaultSettings(duplicates=0.05, out_of_order=0.1)
    how = {"faults": rough, "delay_sigma": 1.0, "seed": 3}
    written = events(log, **how)
    assert written == events(log, **how)
    rows = next(log.stretches())
    shown = dict(zip(rows["imp_id"], rows["ts"], strict=True))
    likes = {event.imp_id: event.ts for event in written if isinstance(event, Feedback)}
    delays = np.array([ts - shown[imp_id] for imp_id, ts in likes.items()]) / 1000
    assert np.median(delays) == pytest.approx(20, rel=0.05)
    assert np.log(delays).std() == pytest.approx(1.0, abs=0.05)
    assert set(likes) == set(rows.filter("feedback.0")["imp_id"])
    once = {(type(event), event.imp_id) for event in written}
    assert (len(written) - len(once)) / len(once) == pytest.approx(0.05, abs=0.01)
    ts = np.array([event.ts for event in written])
    behind = np.maximum.accumulate(ts) - ts
    assert 0 < behind.max() <= 30_000
    calm = [event.ts for event in events(log, faults=CALM)]
    assert calm == sorted(calm)


def test_events_are_keyed_by_user_and_heartbeats_close_every_window() -> None:
    run, join = replay(synthetic_log(500, seed=1)), JoinSettings()
    kinds: Counter[type] = Counter()
    for entry in run.whole_log():
        event = decode_event(entry.value)
        kinds[type(event)] += 1
        assert isinstance(event, (Impression, Feedback)[entry.topic] | Heartbeat)
        if isinstance(event, Heartbeat):
            assert event.ts == run.end_ms + 2 * (join.attribution_ms + join.lateness_ms)
        else:
            assert entry.key == event.user_id.encode()
            assert entry.partition == partition_of(event.user_id, 4)
            assert event.ts <= run.end_ms
    assert kinds[Heartbeat] == 8
    assert kinds[Impression] >= 500
    assert run.num_events == run.count_events() == sum(kinds.values()) - 8


# Any log ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("later_rows", [True, False])
def test_events_say_what_the_rows_say(dated: bool, later_rows: bool) -> None:
    """Byte for byte what `encode_event` writes, whatever columns a log has."""
    log = small_log(3000, dated=dated, later_rows=later_rows)
    rows = {row["imp_id"]: row for row in log.rows.filter("shown").to_dicts()}
    of_later = {row["imp_id"]: row for row in log.rows.filter(~pl.col("shown")).to_dicts()}
    seen: Counter[str] = Counter()
    for entry in replay(log, faults=CALM).entries():
        event = decode_event(entry.value)
        assert encode_event(event) == entry.value
        row = rows[event.imp_id]
        assert (event.user_id, event.item_id) == (row["user_id"], row["item_id"])
        if isinstance(event, Impression):
            seen["impression"] += 1
            check_impression(event, row, log)
        else:
            seen[event.action] += 1
            delay = event.ts - row["ts"]
            assert delay >= 0
            if event.action == "buy":
                assert event.ts in (row["ts.1"], of_later.get(event.imp_id, row)["ts.1"])
                assert event.value is UNSET
            if event.action == "watch" and row["value.2"] is not None:
                assert event.value == row["value.2"]
    given = {rule.action: int(log.rows[f"feedback.{k}"].sum()) for k, rule in enumerate(RULES)}
    assert seen == {"impression": len(rows), **given}


def check_impression(event: Impression, row: dict[str, object], log: FrameLog) -> None:
    assert event.ts == row["ts"]
    hour = {} if row["feature.hour"] is None else {"hour": row["feature.hour"]}
    features = {**log.users.get(event.user_id, event.ts), **log.items.get(event.item_id, event.ts), **hour}
    assert event.features == features
    assert (event.domain, event.position, event.propensity) == (row["domain"], row["position"], row["propensity"])
    if row["served_probability"] is not None:
        assert event.served == Served(probability=row["served_probability"], version=row["served_version"])


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of a few thousand rows has several stretches."""
    monkeypatch.setattr(logs, "ROWS", 700)


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("later_rows", [True, False])
def test_stretches_join_without_a_seam(later_rows: bool) -> None:
    """Events that reach beyond their stretch are carried over: in order, and nothing is lost or doubled."""
    log = small_log(5000, later_rows=later_rows)
    assert sum(1 for _ in log.stretches()) == 8
    run = replay(log, faults=FaultSettings(duplicates=0, out_of_order=0.1, jitter_s=1500))
    entries = list(run.entries())
    assert all(before.written_ms <= after.written_ms for before, after in pairwise(entries))
    found = Counter((entry.topic, getattr(e := decode_event(entry.value), "action", ""), e.imp_id) for entry in entries)
    wanted: Counter[tuple[int, str, str]] = Counter((0, "", i) for i in log.rows.filter("shown")["imp_id"])
    for k, rule in enumerate(RULES):
        wanted.update((1, rule.action, i) for i in log.rows.filter(f"feedback.{k}")["imp_id"])
    assert found == wanted
    assert run.num_rows == 5000
    calm = [decode_event(entry.value).ts for entry in replay(log, faults=CALM).entries()]
    assert calm == sorted(calm)


@pytest.mark.usefixtures("short_stretches")
def test_what_is_held_is_bounded_by_a_stretch_not_by_the_log() -> None:
    held = [len(rows) for rows, _ in replay(small_log(20_000))._batches()]
    assert max(held[20:]) <= max(held[:5]) * 1.2 < 1500


def test_a_span_of_time_is_replayed() -> None:
    log = small_log(1000)
    chosen = {e.imp_id for e in events(log, from_ms=START_MS + 100_000, to_ms=START_MS + 200_000)}
    assert chosen == set(log.rows["imp_id"][100:200])
    run = replay(log, from_ms=START_MS + 100_000, to_ms=START_MS + 200_000, num_rows=10)
    assert {decode_event(e.value).imp_id for e in run.entries()} == set(log.rows["imp_id"][100:110])
    with pytest.raises(EmptyReplayError, match="1,000, from 1650000000000"):
        list(replay(log, from_ms=START_MS * 2).entries())


@pytest.mark.usefixtures("short_stretches")
def test_rounds_follow_each_other_with_ids_and_times_of_their_own() -> None:
    log = small_log(1500)
    once, thrice = (events(log, rounds=n, gap_s=50, faults=CALM) for n in (1, 3))
    shown = [event for event in thrice if isinstance(event, Impression)]
    first = [event for event in once if isinstance(event, Impression)]
    assert len(shown) == 3 * len(first) == len({event.imp_id for event in shown})
    for number in range(3):
        suffix, shift = f"#{number + 1}" if number else "", number * (1_499_000 + 50_000)
        of_round = shown[number * len(first) : (number + 1) * len(first)]
        assert [(e.imp_id, e.ts, e.features) for e in of_round] == [
            (e.imp_id + suffix, e.ts + shift, e.features) for e in first
        ]
    assert [event.ts for event in thrice] == sorted(event.ts for event in thrice)
    rounds = {event.imp_id.partition("#")[2] for event in thrice if isinstance(event, Feedback)}
    assert rounds == {"", "2", "3"}


def test_a_replay_without_end_goes_on() -> None:
    entries = replay(small_log(50), rounds=0, gap_s=1).entries()
    for _ in range(2000):
        last = decode_event(next(entries).value)
    assert int(last.imp_id.partition("#")[2]) > 10


def test_progress_goes_from_nothing_to_all() -> None:
    for how in ({}, {"from_ms": START_MS + 1000, "to_ms": START_MS + 900_000}, {"rounds": 2}):
        run = replay(small_log(1000), **how)
        shares = []
        for _ in run.entries():
            shares.append(run.share_done())
        assert shares[0] == 0.0
        assert shares == sorted(shares)
        assert run.share_done() == pytest.approx(1.0, abs=0.01)
    assert replay(small_log(10), rounds=0).share_done() is None


# Drift --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_stretches")
def test_a_drift_inverts_the_first_action_of_any_log() -> None:
    log = small_log(4000)
    clean = Replay(log, ReplaySettings(faults=CALM), 4, JoinSettings())
    at = clean.count_events() // 2
    drifted = events(log, faults=CALM, drift_at=at, drift_share=0.5)
    clicked = {event.imp_id for event in drifted if isinstance(event, Feedback) and event.action == "click"}
    changed = clicked ^ set(log.rows.filter("feedback.0")["imp_id"])
    users = dict(zip(log.rows["imp_id"], log.rows["user_id"], strict=True))
    of_changed = {users[imp_id] for imp_id in changed}
    assert 10 <= len(of_changed) <= 30
    first = log.rows["imp_id"].to_list().index(min(changed, key=log.rows["imp_id"].to_list().index))
    later = log.rows[first:].filter(pl.col("user_id").is_in(list(of_changed)))
    assert changed == set(later["imp_id"]), "from there on, all their labels"
    others = [event.imp_id for event in drifted if isinstance(event, Feedback) and event.action == "buy"]
    assert sorted(others) == sorted(log.rows.filter("feedback.1")["imp_id"])


def test_a_drift_that_a_log_cannot_have_is_refused() -> None:
    with pytest.raises(DriftError, match="event 900000"):
        replay(small_log(100), drift_at=900_000, drift_share=0.5)
    apart = small_log(100, later_rows=True)
    log = FrameLog("apart", apart.rows.with_columns(pl.col("feedback.1").alias("feedback.0")), RULES, apart.users,
                   FeatureTable({}), source="made")  # fmt: skip
    with pytest.raises(DriftError, match="rows of its own"):
        list(replay(log, drift_at=5, drift_share=0.5).entries())
