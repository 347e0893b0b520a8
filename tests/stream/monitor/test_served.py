"""Figures of what scorers served: what a plain pass over impressions with their final labels says."""

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from support.served import NUM, drawn, fed

from learner.metrics import auc, sampling_weights, summarise
from learner.samples.keys import arm_key
from state_store.rollout import Rollout
from stream.arms.settings import ArmSettings
from stream.monitor.figures.bucket import NUM_BINS, Bucket, merge
from stream.monitor.figures.groups import ARM, MAX_ARMS, MAX_RANGES, OTHER_ARMS, VERSION, Groups
from stream.monitor.page.view import View
from stream.monitor.prometheus import exposition
from stream.monitor.served.meter import ServedMeter
from stream.monitor.served.sums import NUM_SKEWS, skew_bins, skew_quantile
from stream.sections import MonitorSettings
from stream.served import ServedOutcomes
from stream.settings import Settings, load_settings


@pytest.fixture(scope="module")
def all_settings() -> Settings:
    made = load_settings(environment={}, overrides=["monitor.bucket_s=1", "monitor.drift_block=1000"])
    arms = (ArmSettings(name="wide", prefix="rival", percent=5),)
    return msgspec.structs.replace(made, serving=msgspec.structs.replace(made.serving, arms=arms))


def shown(settings: Settings, buckets: list[Bucket]) -> dict[tuple[str, str], dict[str, Any]]:
    again = [Bucket.decode(bucket.encode()) for bucket in buckets]
    view = View(settings).show([], served=again)["served"]
    assert view is not None
    return {(row["dimension"], row["cohort"]): row for row in view["whole"]}


def check(row: dict[str, Any], outcomes: ServedOutcomes, chosen_N: np.ndarray) -> None:
    of = outcomes.take(chosen_N)
    label, p, q = of.label_N.astype(np.int8), of.probability_N, of.progressive_N
    weight = sampling_weights(label, of.rate_N)
    assert (row["samples"], row["positives"]) == (len(of), label.sum())
    exact = summarise(label, p, of.users_N.astype(np.int64), weight)
    for name in ("log_loss", "ne", "calibration"):
        assert row[name].value == pytest.approx(exact[name], rel=1e-4), name
    assert row["auc"].value == pytest.approx(auc(label, np.floor(p * NUM_BINS), weight), abs=1e-5)
    assert row["rate"].value == pytest.approx(np.average(label, weights=weight), rel=1e-5)
    assert row["mean"] == pytest.approx(np.average(p, weights=weight), rel=1e-5)
    own = summarise(label, q, of.users_N.astype(np.int64), weight)
    assert row["reference_loss"] == pytest.approx(own["log_loss"], rel=1e-4)
    assert row["benefit"].value == pytest.approx(own["log_loss"] - exact["log_loss"], abs=1e-5)
    assert row["skew"] == pytest.approx(np.average(p - q, weights=weight), abs=1e-6)
    assert row["skew_abs"] == pytest.approx(np.average(np.abs(p - q), weights=weight), rel=1e-4)
    ordered = np.sort(np.repeat(np.abs(p - q), np.round(weight * 2).astype(int)))
    for name, q_of in (("skew_p50", 0.5), ("skew_p90", 0.9), ("skew_p99", 0.99)):
        exact_quantile = ordered[int(np.ceil(q_of * len(ordered))) - 1]
        assert exact_quantile * 0.999 <= row[name] <= exact_quantile * 10 ** (1 / 8) * 1.001, name


def test_figures_are_those_of_the_impressions_with_their_final_labels(all_settings: Settings) -> None:
    outcomes, late_N = drawn()
    assert late_N.sum() > 200
    meter = ServedMeter(all_settings.monitor, len(all_settings.fields), one_in=1)
    buckets = fed(meter, outcomes, late_N)
    assert len(buckets) > 10
    rows = shown(all_settings, buckets)
    check(rows["all", "all"], outcomes, np.ones(NUM, np.bool_))
    check(rows["share", "canary"], outcomes, outcomes.canary_N)
    check(rows["share", "the rest"], outcomes, ~outcomes.canary_N)
    check(rows["arm", "none"], outcomes, outcomes.arm_N == 0)
    # One of the arms is not in the settings any more.
    for key, name in (("wide", "wide"), ("deep", f"{arm_key('deep'):016x}")):
        check(rows["arm", name], outcomes, outcomes.arm_N == arm_key(key))
    scheme, checked = meter.scheme, 0
    cohorts_3N = scheme.assign(
        outcomes.user_impressions_N, outcomes.item_impressions_N, outcomes.ts_N, outcomes.first_ts_N
    )
    for number, cohort in enumerate(scheme.cohorts):
        chosen_N = (cohorts_3N == number).any(axis=0)
        if chosen_N.any():
            check(rows[cohort.dimension, cohort.name], outcomes, chosen_N)
            assert rows[cohort.dimension, cohort.name]["uauc"].value is not None
            checked += 1
    assert checked >= 12
    ranges = [name for dimension, name in rows if dimension == "version"]
    assert 8 < len(ranges) <= MAX_RANGES
    for name in ranges:
        first, last = map(int, name.split("-"))
        check(rows["version", name], outcomes, (outcomes.version_N >= first) & (outcomes.version_N <= last))
    assert [int(name.split("-")[0]) for name in ranges] == sorted((int(n.split("-")[0]) for n in ranges), reverse=True)


def test_where_nothing_was_served_nothing_is_shown(all_settings: Settings) -> None:
    meter = ServedMeter(all_settings.monitor, len(all_settings.fields))
    assert meter.cut(1) == []
    view = View(all_settings).show([])
    assert view["served"] is None
    health = {"counts": {}, "tasks": [], "rates": {}, "workers": {}, "sample_lag": {}, "watermark_delay_s": {}}
    more = {
        "learner": None,
        "rollout": msgspec.to_builtins(Rollout()),
        "monitor_bytes": 1,
        "redis_bytes": 1,
        "redis_memory": None,
        "missing": [],
        "waits": [],
        "waited": [],
        "time_ms": 1,
    }
    text = exposition(view, health | more).decode()
    assert "coldstream_served_skew{" not in text
    buckets = fed(ServedMeter(all_settings.monitor, len(all_settings.fields)), *drawn())
    text = exposition(View(all_settings).show([], served=buckets), health | more).decode()
    assert 'coldstream_served_skew_abs{cohort="all",dimension="all"} 0.0' in text
    assert 'coldstream_served_log_loss{cohort="canary",dimension="share"}' in text
    assert 'dimension="version"' not in text


@pytest.mark.parametrize(("limit", "num_alarms"), [(0.001, 6), (0.5, 0)])
def test_a_skew_beyond_the_limit_is_told(all_settings: Settings, limit: float, num_alarms: int) -> None:
    monitor = MonitorSettings(skew_limit=limit, drift_block=1000, bucket_s=1)
    meter = ServedMeter(monitor, len(all_settings.fields))
    outcomes, late_N = drawn()
    buckets = fed(meter, outcomes, np.zeros_like(late_N))
    said = [alarm for bucket in buckets for alarm in bucket.alarms]
    assert said == meter.alarms
    assert abs(len(said) - num_alarms) <= (num_alarms > 0)
    exact = float(np.abs(outcomes.probability_N - outcomes.progressive_N).mean())
    for alarm in said:
        off = re.search(r"served: off from the learner's own prediction by (0\.\d+) on average over 1,\d{3}", alarm)
        assert off is not None
        assert float(off[1]) == pytest.approx(exact, abs=0.005)


def test_the_other_columns_of_a_bucket_of_a_former_version_are_read(all_settings: Settings) -> None:
    bucket = merge(fed(ServedMeter(all_settings.monitor, len(all_settings.fields)), *drawn()))
    stored = msgspec.msgpack.decode(bucket.encode())
    former = Bucket.decode(msgspec.msgpack.encode(stored[:-1]))
    assert not former.groups
    np.testing.assert_allclose(former.sums_CM, bucket.sums_CM, rtol=1e-5)


# Groups -------------------------------------------------------------------------------------------------------------


def test_ranges_of_versions_are_the_same_whatever_the_order() -> None:
    rng = np.random.default_rng(1)
    versions = np.unique(rng.integers(0, 5000, 400))
    one = Groups()
    one.add_versions(versions, np.ones((len(versions), 2)))
    parts = []
    for at in np.array_split(rng.permutation(len(versions)), 40):
        part = Groups()
        part.add_versions(versions[at], np.ones((len(at), 2)))
        parts.append(Groups.decode(part.encode()))
    whole = Groups()
    for part in parts:
        whole.add(part)
    assert whole.width == one.width
    assert {k: v.tolist() for k, v in whole.of(VERSION).items()} == {k: v.tolist() for k, v in one.of(VERSION).items()}
    assert len(whole.of(VERSION)) <= MAX_RANGES
    assert sum(sums[0] for sums in whole.sums.values()) == len(versions)


def test_arms_beyond_those_that_are_kept_are_one() -> None:
    groups = Groups()
    for number in range(3 * MAX_ARMS):
        groups.put(ARM, [number], np.ones((1, 2)))
    assert len(groups.of(ARM)) == MAX_ARMS + 1
    assert groups.of(ARM)[OTHER_ARMS].tolist() == [2 * MAX_ARMS] * 2


def test_a_quantile_of_the_skew_is_at_most_a_third_too_large() -> None:
    skews = 10 ** np.random.default_rng(2).uniform(-6, 0, 5000)
    counts = np.bincount(skew_bins(skews), minlength=NUM_SKEWS)
    for q in (0.05, 0.5, 0.9, 0.99, 1.0):
        found, exact = skew_quantile(counts, q), np.sort(skews)[int(np.ceil(q * len(skews))) - 1]
        assert found is not None
        assert exact <= found * 1.0001 <= exact * 1.334
    assert skew_quantile(np.zeros(NUM_SKEWS), 0.5) is None
