"""The frozen twin: which weights it takes, that it scores each sample once, and what it tells."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.columns import columns, records_of
from support.logs import synthetic_log

from learner.learner import Learner
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout
from learner.snapshot import ServingModel, encode_snapshot
from simulators.replay import ReplaySettings
from simulators.runs.backtest import BacktestSettings
from simulators.runs.run_backtest import run_backtest
from state_store.keys import Keys
from state_store.weights import Manifest, WeightStore, blobs_of
from stream.monitor.figures.bootstrap import user_hashes
from stream.monitor.figures.bucket import COUNT, LOSS, REFERENCE_LOSS, merge
from stream.monitor.history.history import TWIN, HistoryReader
from stream.monitor.history.recorder import read_buckets
from stream.monitor.page.view import View
from stream.monitor.twin.feed import TwinFeed, TwinFeedReader
from stream.monitor.twin.twin import Twin
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.settings import Settings, load_settings

HOUR_MS = 3_600_000
START = 1_700_000_000_000


def make_samples(num: int, ts: int, seed: int = 0, num_users: int = 40) -> list[Sample]:
    """Samples a second apart, whose label hangs on the item."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(num):
        user, item = rng.integers(num_users), rng.integers(30)
        label = int(rng.random() < (0.8 if item % 2 else 0.2))
        core = Core(
            f"{ts}-{seed}-{n}", f"u{user}", f"i{item}", ts + 1000 * n, 0, ["F", "25", "1", [], "1999", [], None]
        )
        kind = SampleKind.POSITIVE if label else SampleKind.NEGATIVE
        made.append(Sample(kind, label, -1, core, State([3, 1], 0.1, 0, START, [5, 2], 0.1, 0)))
    return made


class Pipeline:
    """A learner that learns and publishes by the hour, and the feed to its twin."""

    def __init__(self, settings: Settings, client: redis.Redis, run: str = "run") -> None:
        self.settings, self.client, self.run = settings, client, run
        self.learner = Learner(settings.recipe)
        self.weights = WeightStore(client, settings.redis.prefix)
        self.feed = TwinFeed(client, settings.redis.prefix, run, settings.monitor.twin_share)
        self.version = self.number = 0
        self.blobs: dict[int, list[bytes]] = {}

    def hour(self, hour: int, *, durable: bool = True) -> list[Sample]:
        """Learn an hour's samples, make a checkpoint, publish."""
        samples = make_samples(200, START + hour * HOUR_MS, seed=hour)
        self.observe(samples)
        self.feed.write(self.number + 1)
        if durable:
            self.number += 1
            self.feed.durable(self.number)
            self.feed.send()
            self.publish()
        return samples

    def observe(self, samples: list[Sample]) -> None:
        """Learn from samples, and hand them to the twin."""
        columned = self.columns(samples)
        self.feed.observe(columned, self.learner.learn(columned).predictions_B)

    def columns(self, samples: list[Sample]) -> Samples:
        return columns(samples, self.settings.fields, self.settings.actions.names)

    def publish(self) -> None:
        self.version += 1
        blob = [*encode_snapshot(self.learner, None)]
        self.blobs[self.version] = blob
        base = self.weights.put(f"{self.version}-full", blob)
        manifest = Manifest(
            version=self.version,
            epoch=1,
            created_ms=0,
            base=base,
            base_version=self.version,
            learned_ts=self.learner.learned_ts,
        )
        assert self.weights.publish(manifest)

    def predictions_of(self, version: int, samples: list[Sample]) -> np.ndarray:
        model = ServingModel(self.settings.recipe)
        model.load(self.blobs[version])
        return model.predict(self.columns(samples)).predictions_B


@pytest.fixture
def hourly(settings: Settings) -> Settings:
    """Everyone is in the twin's share, and its weights are four hours old."""
    monitor = msgspec.structs.replace(settings.monitor, twin_share=1.0, twin_age_h=4.0)
    return msgspec.structs.replace(settings, monitor=monitor)


def num_scored(settings: Settings, client: redis.Redis, run: str = "run") -> int:
    users = View(settings).scheme.num_users
    buckets = HistoryReader(client, settings.redis.prefix).read(run, TWIN)
    return round(sum(float(b.sums_CM[:users, COUNT].sum()) for b in buckets))


def test_it_scores_with_weights_that_have_their_age(hourly: Settings, client: redis.Redis, tmp_path: Path) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    assert twin.poll("run", 1) == 0
    assert twin.state == "waits for weights to be published"
    for hour in range(12):
        before = num_scored(hourly, client)
        samples = pipeline.hour(hour)
        twin.poll("run", 1000 * (hour + 1))
        # Version v has learned hour v - 1, which ended some three minutes into it.
        if hour < 5:
            assert num_scored(hourly, client) == 0
            assert twin.state.startswith("waits for weights 4 h old (event time); so far") == (hour < 4)
            continue
        assert num_scored(hourly, client) - before == len(samples)
        newest = read_buckets(tmp_path, TWIN)[-1]
        assert newest.version == hour - 4
        users = slice(0, View(hourly).scheme.num_users)
        frozen = np.clip(pipeline.predictions_of(newest.version, samples), 1e-6, 1 - 1e-6)
        labels = np.array([s.label for s in samples])
        expected = -np.log(np.where(labels > 0, frozen, 1 - frozen)).sum()
        assert newest.sums_CM[users, REFERENCE_LOSS].sum() == pytest.approx(expected, rel=1e-4)
        assert 4.0 <= newest.age_ms / HOUR_MS / len(samples) < 5.2
    # Of the pinned weights, only what may still be needed is kept.
    assert len(twin.pins.manifests) <= 7
    kept = set()
    for ref in blobs_of(twin.pins.manifests):
        found = client.get(Keys(hourly.redis.prefix).blob(ref.name))
        kept |= {ref.name, *(name for name, _ in msgspec.json.decode(found))}
    assert {k.decode().rsplit(":", 1)[1] for k in client.keys(f"{hourly.redis.prefix}:*:blob:pinned-*")} == kept


def test_each_sample_is_scored_once_whoever_dies(hourly: Settings, client: redis.Redis, tmp_path: Path) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(6):
        pipeline.hour(hour)
        twin.poll("run", hour)
    assert num_scored(hourly, client) == 200
    # The learner dies before checkpoint 7 is durable, and learns the same samples again.
    pipeline.hour(6, durable=False)
    assert twin.poll("run", 6) == 0
    again = TwinFeed(client, hourly.redis.prefix, "run", 1.0, pipeline.number)
    again.send()
    pipeline.feed = again
    pipeline.hour(6)
    # The monitor dies after it has written the figures, and before it says so.
    reader = TwinFeedReader(client, hourly.redis.prefix, "run")
    (number,) = reader.waiting()
    held = client.hget(Keys(hourly.redis.prefix).monitor_feed("run"), str(number))
    twin.poll("run", 7)
    client.hset(Keys(hourly.redis.prefix).monitor_feed("run"), str(number), held)
    pinned = twin.pins
    twin = Twin(hourly, client, tmp_path)
    assert twin.pins == pinned
    assert twin.poll("run", 8) == 200
    assert num_scored(hourly, client) == 400
    assert reader.waiting() == []


def test_what_redis_would_not_take_is_written_later_and_scored_once(
    hourly: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(5):
        pipeline.hour(hour)
        twin.poll("run", hour)
    pipeline.hour(5)
    # A history key of another type makes Redis refuse the figures after the samples were scored.
    key = Keys(hourly.redis.prefix).monitor_history("run", TWIN)
    held = client.dump(key)
    client.delete(key)
    client.set(key, "in the way")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        twin.poll("run", 5)
    client.delete(key)
    client.restore(key, 0, held)
    assert twin.poll("run", 6) == 0
    assert num_scored(hourly, client) == 200
    pipeline.hour(6)
    assert twin.poll("run", 7) == 200
    assert num_scored(hourly, client) == 400


def test_late_labels_turn_their_negatives(hourly: Settings, client: redis.Redis, tmp_path: Path) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(6):
        samples = pipeline.hour(hour)
        twin.poll("run", hour)
    negative = next(s for s in samples if s.kind is SampleKind.NEGATIVE)
    correction = msgspec.structs.replace(negative, kind=SampleKind.CORRECTION, label=1)
    pipeline.observe([correction])
    positives = sum(s.label for s in samples)
    pipeline.hour(6)
    twin.poll("run", 9)
    pipeline_labels = positives + 1 + sum(s.label for s in make_samples(200, START + 6 * HOUR_MS, seed=6))
    buckets = HistoryReader(client, hourly.redis.prefix).read("run", TWIN)
    view = View(hourly)
    assert view.overall(merge(buckets))["positives"] == pipeline_labels
    assert view.overall(merge(buckets))["samples"] == 400


def test_samples_that_nobody_takes_are_bounded_and_counted(hourly: Settings, client: redis.Redis) -> None:
    pipeline = Pipeline(hourly, client)
    for hour in range(63):
        pipeline.hour(hour)
    reader = TwinFeedReader(client, hourly.redis.prefix, "run")
    assert reader.waiting() == list(range(4, 64))
    assert reader.dropped() == 3


def test_samples_that_redis_refuses_wait_and_are_scored_once(
    hourly: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(5):
        pipeline.hour(hour)
        twin.poll("run", hour)
    feed, said = pipeline.feed, client.config_set
    for hour in (5, 6):
        pipeline.observe(make_samples(200, START + hour * HOUR_MS, seed=hour))
        said("maxmemory", 1)
        pipeline.number += 1
        for attempt in (lambda: feed.write(pipeline.number), feed.send):
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                attempt()
            feed.durable(pipeline.number) if attempt != feed.send else None
        said("maxmemory", 0)
        assert twin.poll("run", hour) == 0
    feed.send()
    assert twin.poll("run", 7) == 400
    assert num_scored(hourly, client) == 400
    # A learner that dies before Redis takes them: they are dropped, and counted.
    pipeline.number += 1
    again = TwinFeed(client, hourly.redis.prefix, "run", 1.0, pipeline.number)
    again.send()
    assert TwinFeedReader(client, hourly.redis.prefix, "run").dropped() == 1
    assert twin.poll("run", 8) == 0


def test_samples_that_redis_refused_a_learner_that_died_are_sent_by_the_next(
    hourly: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    prefix, kept = hourly.redis.prefix, tmp_path / "feed"
    pipeline, reader = Pipeline(hourly, client), TwinFeedReader(client, prefix, "run")
    pipeline.feed = feed = TwinFeed(client, prefix, "run", 1.0, 0, kept)
    wanted = {}
    for number in (1, 2, 3):
        pipeline.observe(make_samples(10 * number, START, seed=number))
        if number == 1:
            feed.write(number)
        else:
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                feed.write(number)
            client.config_set("maxmemory", 0)
            feed.keep(number)
        # It dies before the third is durable.
        if number < 3:
            feed.durable(number)
            wanted[number] = 10 * number
    for _ in range(2):
        again = TwinFeed(client, prefix, "run", 1.0, 2, kept)
        again.send()
        again.send()
    assert {number: len(reader.read(number, hourly.recipe.layout)) for number in reader.waiting()} == wanted
    assert (reader.dropped(), list(kept.iterdir())) == (0, [])
    # What was taken is not sent again.
    for number in wanted:
        reader.done(number)
    TwinFeed(client, prefix, "run", 1.0, 2, kept).send()
    assert reader.waiting() == []


def test_another_run_begins_with_no_weights(hourly: Settings, client: redis.Redis, tmp_path: Path) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(6):
        pipeline.hour(hour)
        twin.poll("run", hour)
    twin.poll("other", 10)
    assert [m.version for m in twin.pins.manifests] == [6]
    assert twin.pins.run == "other"


def test_weights_that_redis_lost_are_waited_for_anew(hourly: Settings, client: redis.Redis, tmp_path: Path) -> None:
    pipeline, twin = Pipeline(hourly, client), Twin(hourly, client, tmp_path)
    for hour in range(4):
        pipeline.hour(hour)
        twin.poll("run", hour)
    client.delete(*client.keys(f"{hourly.redis.prefix}:*:blob:pinned-*"))
    for hour in range(4, 12):
        pipeline.hour(hour)
        twin.poll("run", hour)
    assert 0 < num_scored(hourly, client) < 200 * 7


def test_a_share_of_the_users_is_a_share_of_the_users(settings: Settings, client: redis.Redis) -> None:
    samples = make_samples(4000, START, num_users=2000)
    feed, layout = TwinFeed(client, "share", "run", 0.25), settings.recipe.layout
    hashes = user_hashes(s.core.user_id for s in samples)
    columned = columns(samples, settings.fields, settings.actions.names)
    predictions = np.linspace(0, 1, len(samples), dtype=np.float32)
    # In two blocks, as the learner hands them on.
    for part in (slice(0, 1500), slice(1500, 4000)):
        feed.observe(columned.slice(part.start, part.stop), predictions[part])
    feed.write(1)
    feed.durable(1)
    feed.send()
    scored = TwinFeedReader(client, "share", "run").read(1, layout)
    found = set(scored.samples.user_ids)
    everyone = {s.core.user_id for s in samples}
    # Samples come with their own predictions, as they were.
    chosen = np.array([h < (1 << 30) for h in hashes])
    np.testing.assert_array_equal(scored.predictions_B, predictions[chosen])
    assert [s.core.imp_id for s in records_of(scored.samples)] == [
        s.core.imp_id for s, c in zip(samples, chosen, strict=True) if c
    ]
    assert records_of(scored.samples) == records_of(columned.take(chosen))
    # Those of other fields, or of a former version, are none.
    assert len(TwinFeedReader(client, "share", "run").read(1, Layout(settings.fields, ("like", "buy")))) == 0
    client.hset(Keys("share").monitor_feed("run"), "1", msgspec.msgpack.encode([[samples[0], 0.5]]))
    assert len(TwinFeedReader(client, "share", "run").read(1, layout)) == 0
    assert len(found) / len(everyone) == pytest.approx(0.25, abs=0.03)
    assert {s.core.user_id for s, h in zip(samples, hashes, strict=True) if h < (1 << 30)} == found


def test_a_backtest_compares_the_live_model_with_the_frozen_one(tmp_path: Path) -> None:
    settings = load_settings(environment={}, overrides=["monitor.twin_share=1.0", "monitor.twin_age_h=0.5"])
    log = synthetic_log(12_000, seed=5)
    run_backtest(settings, log, ReplaySettings(), tmp_path, BacktestSettings(publish_samples=1000))
    view, buckets = View(settings), read_buckets(tmp_path, TWIN)
    shown = view.twin(buckets)
    assert shown is not None
    assert shown["age_h"] >= 0.5
    whole = merge(buckets)
    users = slice(0, view.scheme.num_users)
    count = whole.sums_CM[users, COUNT].sum()
    assert count > 3000
    # The live side is what the prediction log has, not a second opinion.
    rows = matured(read_predictions(tmp_path / "predictions")).tail(round(count))
    exact = -np.log(np.where(rows["label"] > 0, rows["prediction"], 1 - rows["prediction"])).sum()
    assert whole.sums_CM[users, LOSS].sum() == pytest.approx(exact, rel=1e-4)
    assert shown["whole"][0]["benefit"].low < shown["whole"][0]["benefit"].value < shown["whole"][0]["benefit"].high
