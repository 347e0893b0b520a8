"""Cohort figures: what the learner sums up as it goes equals what an exact pass over its prediction log gives."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from support.columns import columns
from support.logs import movielens_log, synthetic_log

from learner.learned import Learned
from learner.learner import Learner
from learner.metrics import auc, summarise
from learner.parts import weight_names
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import BacktestSettings
from simulators.runs.run_backtest import run_backtest
from state_store.config import JoinSettings
from state_store.keys import Keys
from stream.events import Feedback, Impression, decode_event
from stream.monitor.figures.bucket import (
    COUNT,
    LOSS,
    NUM_BINS,
    POSITIVE,
    PREDICTED,
    REFERENCE_LOSS,
    WEIGHT,
    Bucket,
    merge,
)
from stream.monitor.figures.cohorts import Cohort, CohortScheme
from stream.monitor.figures.drift import DriftWatch
from stream.monitor.figures.intervals import entropy
from stream.monitor.figures.meter import Meter
from stream.monitor.history.history import COHORTS, HistoryReader, HistoryWriter
from stream.monitor.history.recorder import Recorder, read_buckets, run_name
from stream.monitor.page.lookup import Lookup
from stream.monitor.page.points import groups
from stream.monitor.page.report import NoHistoryError, write_report
from stream.monitor.page.view import View
from stream.predictions.columns import SCHEMA, log_columns
from stream.predictions.judged import matured, with_served
from stream.predictions.log import PredictionLog, read_predictions
from stream.sections import MonitorSettings
from stream.settings import Settings, SettingsError, load_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backtest with late labels and dropped negatives."""
    folder = tmp_path_factory.mktemp("run")
    settings = load_settings(
        environment={}, overrides=["join.negative_rate=0.5", "join.negative_rate_from=20", "monitor.bucket_s=0.5"]
    )
    replay = ReplaySettings(seed=2, delay_median_s=120.0)
    run_backtest(settings, synthetic_log(6000, seed=2), replay, folder, BacktestSettings())
    return folder


def meter_of(settings: Settings, **options: Any) -> Meter:
    """As of the learner."""
    return Meter(settings.monitor, len(settings.fields), len(weight_names(settings.recipe)), **options)


def observe(meter: Meter, learner: Learner, samples: list[Sample], *, diverged: int = 0) -> None:
    """Learn from samples, and have the meter take them in; the first ones' predictions are no numbers."""
    columned = columns(samples, learner.fields, learner.recipe.actions)
    learned = learner.learn(columned)
    predictions = np.where(np.arange(len(samples)) < diverged, np.nan, learned.predictions_B)
    take_in(meter, columned, msgspec.structs.replace(learned, predictions_B=predictions))


def take_in(meter: Meter, samples: Samples, learned: Learned) -> None:
    """Have the meter take in what was predicted; popularity always says one half."""
    size = len(samples)
    places, baselines = (np.zeros(size, np.int64), np.zeros(size, np.int64)), np.full(size, 0.5)
    logged = log_columns(samples, places, learned.predictions_B, learned.ranks_B, baselines, 0)
    meter.observe(logged, samples, learned, 0, 1)


def test_figures_equal_an_exact_pass_over_the_prediction_log(run: Path) -> None:
    rows = matured(read_predictions(run / "predictions"))
    view = View(load_settings(environment={}))
    whole = merge(read_buckets(run))
    assert whole.late_labels == 0
    labels = rows["label"].to_numpy()
    weights = np.where(labels > 0, 1.0, 1.0 / rows["negative_rate"].to_numpy())
    users = rows["user_id"].cast(pl.Categorical).to_physical().to_numpy()
    cohorts = view.scheme.assign(
        rows["user_impressions"].to_numpy(),
        rows["item_impressions"].to_numpy(),
        rows["ts"].to_numpy(),
        rows["user_first_ts"].to_numpy(),
    )
    checked = 0
    for number in range(len(view.scheme)):
        chosen = (cohorts == number).any(axis=0)
        if not 0 < labels[chosen].sum() < chosen.sum():
            continue
        exact = summarise(labels[chosen], rows["prediction"].to_numpy()[chosen], users[chosen], weights[chosen])
        found = view.cohort(whole, number)
        assert found["samples"] == exact["samples"]
        assert found["positives"] == labels[chosen].sum()
        for name in ("log_loss", "ne", "calibration"):
            assert found[name].value == pytest.approx(exact[name], rel=1e-4), (number, name)
        # Predictions that share a bin of the histogram are ties.
        bins = np.floor(rows["prediction"].to_numpy()[chosen] * NUM_BINS)
        assert found["auc"].value == pytest.approx(auc(labels[chosen], bins, weights[chosen]), abs=1e-6)
        assert found["auc"].value == pytest.approx(exact["auc"], abs=0.02)
        assert found["auc"].low < exact["auc"] < found["auc"].high
        checked += 1
    assert checked >= 8
    overall = view.overall(whole)
    assert overall["samples"] == len(rows)


def test_impressions_that_have_just_passed_are_in_the_log_and_not_in_the_figures(run: Path) -> None:
    log = read_predictions(run / "predictions")
    shown = log.filter(pl.col("kind") == int(SampleKind.SHOWN))
    assert len(shown) == shown["imp_id"].n_unique() == 6000
    rows = matured(log)
    assert len(rows) < 6000, "some negatives were dropped"
    assert View(load_settings(environment={})).overall(merge(read_buckets(run)))["samples"] == len(rows)
    assert np.isfinite(shown.select("prediction", "rank_score", "baseline").to_numpy()).all()
    served = with_served(rows, log)
    assert served.drop("served_prediction", "served_rank_score").equals(rows)
    by_id = {imp_id: of for imp_id, *of in shown.select("imp_id", "prediction", "rank_score").iter_rows()}
    for imp_id, *of in served.select("imp_id", "served_prediction", "served_rank_score").iter_rows():
        assert of == by_id[imp_id]
    # It came before the label, when less had been learned.
    places = dict(shown.select("imp_id", pl.struct("partition", "sequence")).iter_rows())
    for imp_id, partition, sequence in rows.select("imp_id", "partition", "sequence").iter_rows():
        assert places[imp_id]["partition"] == partition
        assert places[imp_id]["sequence"] < sequence
    assert (served["served_prediction"] != served["prediction"]).mean() > 0.9
    assert with_served(rows, rows)["served_prediction"].null_count() == len(rows)


def test_buckets_survive_storage_and_add_up(run: Path) -> None:
    buckets = read_buckets(run)
    assert len(buckets) > 5
    again = merge([Bucket.decode(bucket.encode()) for bucket in buckets])
    whole = merge(buckets)
    np.testing.assert_allclose(again.sums_CM, whole.sums_CM, rtol=1e-6)
    np.testing.assert_array_equal(again.histogram_2C2K, whole.histogram_2C2K)
    assert again.arrivals.keys() == whole.arrivals.keys()
    points = [merge(group) for group in groups(buckets, 3)]
    assert len(points) == 3
    np.testing.assert_allclose(merge(points).sums_CM, whole.sums_CM)


def test_history_is_bounded_and_loses_nothing(run: Path, client: redis.Redis, settings: Settings) -> None:
    buckets, prefix = read_buckets(run), settings.redis.prefix
    writer = HistoryWriter(client, prefix, "a", 0, 10, max_buckets=40, max_runs=2)
    for number in range(1, 101):
        writer.write(number, buckets[:3])
    kept = HistoryReader(client, prefix).read("a")
    assert len(kept) <= 43
    expected = merge(buckets[:3]).sums_CM * 100
    np.testing.assert_allclose(merge(kept).sums_CM, expected, rtol=1e-5)
    newest = kept[-1].sums_CM.sum()
    assert newest < kept[0].sums_CM.sum()


def test_what_is_learned_again_after_a_crash_is_in_the_history_once(
    run: Path, client: redis.Redis, settings: Settings
) -> None:
    buckets, prefix = read_buckets(run), settings.redis.prefix
    first = HistoryWriter(client, prefix, "a", 0, 10, max_buckets=100, max_runs=2)
    first.write(1, buckets[:1])
    first.write(2, buckets[1:2])  # and then it dies, before checkpoint 2 is durable
    reader = HistoryReader(client, prefix)
    assert len(reader.read("a")) == 2
    second = HistoryWriter(client, prefix, "a", 1, 20, max_buckets=100, max_runs=2)
    assert len(reader.read("a")) == 1
    second.write(2, buckets[1:3])
    np.testing.assert_allclose(merge(reader.read("a")).sums_CM, merge(buckets[:3]).sums_CM, rtol=1e-6)
    for at, name in enumerate(("y", "c", "b")):
        HistoryWriter(client, prefix, name, 0, 30 + at, max_buckets=100, max_runs=2).write(1, buckets[:1])
    assert reader.runs() == ["c", "b"]
    assert reader.read("a") == []


def test_a_history_that_redis_lost_is_written_again_from_the_run_folder(
    run: Path, client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    prefix, buckets = settings.redis.prefix, read_buckets(run)
    meter = meter_of(settings)

    def open_history(_: int) -> HistoryWriter:
        return HistoryWriter(client, prefix, "a", 2, 10, max_buckets=100, max_runs=2)

    recorder = Recorder(meter, tmp_path, keep=10, history=open_history, number=0)
    reader, key = HistoryReader(client, prefix), Keys(prefix).monitor_history("a", COHORTS)
    for number in (1, 2):
        meter._stretches._ended = buckets[number : number + 1]
        recorder.write(number, number)
    whole = reader.read("a")
    assert reader.read("a") is whole, "what has not changed is not read again"
    client.hdel(key, "2")
    recorder.open_history()
    HistoryWriter(client, prefix, "a", 2, 10, max_buckets=100, max_runs=2).write(3, buckets[3:4])
    found = reader.read("a")
    assert found is not whole
    np.testing.assert_allclose(merge(found).sums_CM, merge(buckets[1:4]).sums_CM, rtol=1e-6)


def test_a_history_that_redis_refuses_holds_up_nothing_and_is_written_later(
    run: Path, client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    prefix, buckets = settings.redis.prefix, read_buckets(run)

    def recorder(number: int) -> Recorder:
        return Recorder(
            meter_of(settings),
            tmp_path,
            keep=10,
            history=lambda behind: HistoryWriter(client, prefix, "a", behind, 10, max_buckets=100, max_runs=2),
            number=number,
        )

    def checkpoint(of: Recorder, number: int) -> None:
        of._meter._stretches._ended = buckets[number : number + 1]
        of.cut(number, number)
        of.durable(number)

    first = recorder(0)
    checkpoint(first, 1)
    first.send()
    client.config_set("maxmemory", 1)
    try:
        for number in (2, 3):
            checkpoint(first, number)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                first.send()
    finally:
        client.config_set("maxmemory", 0)
    first.send()
    whole = merge(HistoryReader(client, prefix).read("a")).sums_CM
    np.testing.assert_allclose(whole, merge(buckets[1:4]).sums_CM, rtol=1e-6)
    # It dies before Redis takes the next two, of which one is not even durable.
    checkpoint(first, 4)
    first._meter._stretches._ended = buckets[5:6]
    first.cut(5, 5)
    second = recorder(4)
    second._meter._stretches._ended = buckets[6:7]
    second.write(5, 6)
    whole = merge(HistoryReader(client, prefix).read("a")).sums_CM
    np.testing.assert_allclose(whole, merge([*buckets[1:5], buckets[6]]).sums_CM, rtol=1e-6)


def test_a_drift_is_told_by_a_learner_that_was_started_anew(settings: Settings) -> None:
    def stretch(calibration: float) -> Bucket:
        weights = len(weight_names(settings.recipe))
        bucket = Bucket(len(CohortScheme(settings.monitor)), len(settings.fields), 50, 6, weights)
        bucket.sums_CM[0, [COUNT, WEIGHT, POSITIVE]] = 2000, 2000, 1000
        bucket.sums_CM[0, PREDICTED] = 1000 * calibration
        bucket.sums_CM[0, [LOSS, REFERENCE_LOSS]] = 2000 * 0.6
        return bucket

    nothing = pl.DataFrame(schema=SCHEMA)
    told = {}
    for name, past in (("anew", []), ("with its past", [stretch(1.0)] * 20)):
        meter = meter_of(settings)
        meter.remember(nothing, past)
        assert meter.alarms == []
        meter._watch(stretch(1.5).sums_CM)
        meter._watch(stretch(1.5).sums_CM)
        told[name] = len(meter.alarms)
    assert told["anew"] == 0
    assert told["with its past"] > 0


def test_features_are_as_old_as_their_embeddings(settings: Settings) -> None:
    def sample(ts: int, user: str, features: list[object], version: int = 0) -> Sample:
        core = Core(f"{user}{ts}", user, "i", ts, 50_000, features)
        return Sample(SampleKind.NEGATIVE, 0, -1, core, State([1, 0], 0.1, version, 0, [1, 0], 0.1, 0))

    learner = Learner(settings.recipe)
    meter = meter_of(settings)
    meter.published(7, 43_000)
    full, empty = ["F", "25", "1", ["a", "b"], "1999", ["x"], "1990s"], [None, None, None, [], None, [], None]
    for samples in (
        [sample(1_000_000, "u", full)],
        *[[sample(1_000_000, "w", empty)]] * 15,
        [sample(1_009_000, "u", full, 7)],
    ):
        observe(meter, learner, samples)
    (bucket,) = meter.cut(2)
    rows = {row["feature"]: row for row in View(settings).freshness(bucket)}
    # One block in sixteen is looked at: the first and the last.
    assert rows["gender"]["null"].value == 0.0
    assert rows["user_id"]["new"] == 0.5
    assert (rows["user_id"]["age_p50_s"], rows["title"]["age_p99_s"]) == (16.0, 16.0)
    assert rows["user norm"]["null"].value == 0.5
    assert rows["user norm"]["age_p50_s"] == 8.0, "seven seconds from its publish to the impression"
    meter = meter_of(settings)
    # The learner has looked at the block before: fifteen that nobody looks at.
    for _ in range(15):
        learner.learn(columns([sample(1_009_500, "w", empty)], settings.fields))
    observe(meter, learner, [sample(1_010_000, "w", empty), sample(1_010_000, "u", full)])
    rows = {row["feature"]: row for row in View(settings).freshness(meter.cut(2)[0])}
    assert rows["gender"]["null"].value == rows["genres"]["null"].value == 0.5
    assert rows["user_id"]["null"].value == 0.0


def test_a_model_that_has_diverged_is_counted_and_harms_nobody(settings: Settings) -> None:
    features: list[object] = ["F", "25", "1", [], "1999", [], None]
    cores = [Core(f"{n}", "u", "i", 1000 + n, 0, features) for n in range(40)]
    states = [State([n, 0], 0.1, 0, 1, [n, 0], 0.1, 0) for n in range(40)]
    negatives = [Sample(SampleKind.NEGATIVE, 0, -1, *of) for of in zip(cores, states, strict=True)]
    late = [msgspec.structs.replace(sample, kind=SampleKind.CORRECTION, label=1) for sample in negatives]
    learner, meter = Learner(settings.recipe), meter_of(settings, one_in=1)
    for samples, num_lost in ((negatives, 10), (late, 0)):
        observe(meter, learner, samples, diverged=num_lost)
    (bucket,) = meter.cut(2)
    assert bucket.unscored == 10
    assert bucket.num_samples == 30
    assert bucket.sums_CM[:6, POSITIVE].sum() == 30
    assert np.isfinite(bucket.sums_CM).all()


def test_a_user_that_is_looked_up_again_is_read_as_if_for_the_first_time(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    def write(number: int, wave: str) -> None:
        log = PredictionLog(tmp_path / "predictions", keep=50)
        for user in ("u", "other"):
            core = Core(f"{user}{number}{wave}", user, "i", number, 0, [None] * 7)
            sample = Sample(SampleKind.NEGATIVE, 0, -1, core, State([1, 0], 0.1, 0, 0, [1, 0], 0.1, 0))
            places, half = (np.zeros(1, np.int64), np.full(1, number)), np.full(1, 0.5)
            log.append(log_columns(columns([sample], settings.fields), places, half, half, half, 0))
        log.flush(number)

    lookup = Lookup(settings, client, tmp_path)
    # A learner that dies writes its newest file anew; in the end another run begins in the folder.
    for number, wave in ((1, "a"), (2, "a"), (3, "a"), (4, "a"), (4, "b"), (5, "a"), (6, "a"), (1, "new"), (2, "new")):
        if (number, wave) == (1, "new"):
            for path in (tmp_path / "predictions").iterdir():
                path.unlink()
        write(number, wave)
        exact = read_predictions(tmp_path / "predictions").filter(pl.col("user_id") == "u")
        assert lookup._rows("u").equals(exact), (number, wave)
        assert len(exact) == number


def test_a_run_keeps_its_name(tmp_path: Path) -> None:
    name = run_name(tmp_path / "shop", 1_700_000_000_000)
    assert name == "shop-20231114T221320Z"
    assert run_name(tmp_path / "shop", 1_800_000_000_000) == name


def test_a_report_is_one_file_with_everything_in_it(run: Path, tmp_path: Path) -> None:
    html = write_report(load_settings(environment={}), run)[0].read_text()
    assert "window.REPORT" in html
    for outside in ('src="', 'href="page', "http://", "@import"):
        assert outside not in html.split("<body>")[0], outside
    with pytest.raises(NoHistoryError, match="no cohort figures"):
        write_report(load_settings(environment={}), tmp_path)
    other = load_settings(environment={}, overrides=["monitor.user_impressions=[3]"])
    with pytest.raises(NoHistoryError, match="cohorts or fields"):
        write_report(other, run)


def test_cohorts_ascend() -> None:
    with pytest.raises(SettingsError, match=r"monitor\.account_days.*\[7, 1\]"):
        load_settings(environment={}, overrides=["monitor.account_days=[7, 1]"])
    scheme = CohortScheme(MonitorSettings())
    numbers = scheme.assign(np.array([0, 4, 5, 1000]), np.array([1, 1, 1, 1]), np.array([10] * 4), np.array([0] * 4))
    names = [scheme.cohorts[n].name for n in numbers[0]]
    assert names == ["0", "1-4", "5-9", "200+"]


def test_drift_is_told_either_way_and_noise_is_not() -> None:
    rng, settings = np.random.default_rng(0), MonitorSettings()

    def alarms(shift_at: int, ne_shift: float, calibration: float) -> list[tuple[int, str]]:
        watch = DriftWatch(Cohort("user", "0"), settings)
        told = []
        for block in range(300):
            shifted = block >= shift_at
            loss = (0.85 + 0.01 * rng.normal() + ne_shift * shifted) * entropy(0.5)
            ratio = (calibration if shifted else 1.0) * np.exp(0.02 * rng.normal())
            size = float(settings.drift_block)
            for alarm in watch.update(size, size / 2, size / 2 * ratio, size * loss, size * 0.9 * entropy(0.5)):
                told.append((block, alarm))
        return told

    assert alarms(1000, 0.0, 1.0) == []
    for ne_shift in (0.1, -0.1):
        (first, said), *_ = alarms(150, ne_shift, 1.0)
        assert 150 <= first < 160
        assert "user 0: NE against popularity drifted" in said
    (first, said), *_ = alarms(150, 0.0, 1.2)
    assert 150 <= first < 160
    assert "calibration drifted, now 1." in said


def test_a_replay_inverts_the_labels_of_a_share_of_users_from_an_event_on() -> None:
    log = synthetic_log(5000, seed=3)

    def events(how: ReplaySettings) -> list[Impression | Feedback]:
        return [decode_event(entry.value) for entry in Replay(log, how, 4, JoinSettings()).entries()]

    def liked(written: list[Impression | Feedback]) -> set[int]:
        return {int(event.imp_id[1:]) for event in written if isinstance(event, Feedback)}

    plain = events(ReplaySettings(seed=3))
    changed = liked(plain) ^ liked(events(ReplaySettings(seed=3, drift_at=4000, drift_share=0.4)))
    first = next(int(event.imp_id[1:]) for event in plain[4000:] if isinstance(event, Impression))
    assert min(changed) >= first
    users = next(log.stretches())["user_id"].to_list()
    of_changed = {users[n] for n in changed}
    later = [n for n in range(first, 5000) if users[n] in of_changed]
    assert set(later) == changed, "all their labels are inverted"
    share = len(of_changed) / len({users[n] for n in range(first, 5000)})
    assert share == pytest.approx(0.4, abs=0.08)


@pytest.mark.slow
def test_an_injected_drift_is_told_and_until_then_all_is_quiet(tmp_path: Path, long: bool) -> None:
    log = movielens_log()
    num_rows, drift_at = (150_000, 160_000) if long else (75_000, 80_000)
    how = ReplaySettings(num_rows=num_rows, seed=5, drift_at=drift_at, drift_share=0.4)
    run_backtest(load_settings(environment={}), log, how, tmp_path)
    samples, told = 0, []
    for bucket in read_buckets(tmp_path):
        samples += round(bucket.num_samples)
        told += [samples for _ in bucket.alarms]
    # Up to its beginning, the run is one without drift.
    begun = drift_at * num_rows / Replay(log, how, 4, JoinSettings()).count_events()
    assert begun < told[0] < begun + 30_000
