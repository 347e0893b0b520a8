"""The whole pipeline on real brokers, real Redis and real data."""

import time
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.console import Console
from support.columns import labelled
from support.logs import movielens_log, synthetic_log
from support.serving import with_serving
from support.small_log import small_log, with_tasks
from support.ways import read_both_ways

from learner.metrics import auc, log_loss
from learner.samples.former import Sample
from simulators.logs.log import Log
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from simulators.runs.backtest import Backtest, BacktestSettings
from simulators.runs.demo import Demo
from simulators.runs.run_backtest import run_backtest
from state_store.client import connect
from state_store.outbox import Outbox
from stream.command.roles import Role, wait_until
from stream.events import Feedback, Impression, encode_event
from stream.kafka.topics import admin, ensure_topics
from stream.partitioning import partition_of
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.process.store import open_store
from stream.settings import Settings

NUM_ROWS = 20_000
AUC_MARGIN_OVER_ITEM_MEAN = 0.03
pytestmark = pytest.mark.slow
BOTH_WAYS = read_both_ways(plain_on="apache")


@pytest.fixture(scope="session")
def log() -> Log:
    return movielens_log()


def on(settings: Settings, broker: str) -> Settings:
    live = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=broker))
    ensure_topics(live.kafka)
    return live


@BOTH_WAYS
def test_a_replay_through_kafka_counts_joins_and_learns(
    settings: Settings, broker: str, log: Log, tmp_path: Path
) -> None:
    live = on(with_serving(settings, enabled=True), broker)
    how = ReplaySettings(num_rows=NUM_ROWS)
    summary = Demo(live, log, how, PaceSettings(in_flight=10_000), tmp_path, Console(stderr=True, quiet=True)).run()
    assert summary["counts_match"], summary["count_differences"]
    samples = summary["samples"]
    assert samples["positive"] + samples["negative"] == NUM_ROWS == summary["impressions_evaluated"]
    assert samples["correction"] > 0
    assert samples["orphan"] > 0
    assert summary["samples_trained"] == NUM_ROWS + samples["correction"]
    assert summary["events_produced"] == summary["impressions"] + summary["feedback"] + 2 * live.kafka.partitions
    assert summary["weights_version"] >= 1
    assert 0 < summary["freshness_seconds"]["p50"] <= summary["freshness_seconds"]["p99"] < 120
    rows = matured(read_predictions(tmp_path / "predictions"))
    labels, scores = rows["label"].to_numpy(), rows["prediction"].to_numpy()
    assert auc(labels, scores) > auc(labels, rows["baseline"].to_numpy()) + AUC_MARGIN_OVER_ITEM_MEAN
    constant = log_loss(labels, labels * 0.0 + labels.mean())
    assert log_loss(labels, scores) < constant - 0.03
    assert summary["ne"] < 0.95
    assert "serving: http://" in (tmp_path / "serve.log").read_text(), "a scorer runs beside it"
    manifests = read_topic(broker, live.kafka.weights)
    assert manifests, "each new manifest is announced in the weights topic"
    assert sum(cohort["samples"] for cohort in summary["cohorts"].values()) == NUM_ROWS


def read_topic(broker: str, topic: str) -> list:
    """All records of a topic with one partition."""
    consumer, whole, records = KafkaConsumer(bootstrap_servers=broker, group_id=None), TopicPartition(topic, 0), []
    consumer.assign([whole])
    consumer.seek_to_beginning()
    end = consumer.end_offsets([whole])[whole]

    def is_read() -> bool:
        records.extend(consumer.poll(100).get(whole, ()))
        return consumer.position(whole) >= end

    try:
        wait_until(is_read, "the whole topic", progress=lambda: len(records))
    finally:
        consumer.close()
    return records


def exact(sample: Sample) -> tuple:
    """What no timing may change: ids, times, features, label, kind, the user's impressions before it."""
    core = sample.core
    features = tuple(tuple(v) if isinstance(v, list) else v for v in core.features)
    ids = (core.imp_id, core.user_id, core.item_id, core.ts)
    labels = (sample.kind, sample.label, sample.delay_ms, sample.task, sample.labels, sample.known, str(sample.values))
    return (*ids, str(core.shown), features, *labels, sample.state.user_counts[0])


def outbox_of(settings: Settings) -> list[Sample]:
    client = connect(settings.redis)
    entries = Outbox(client, settings.redis.prefix, settings.kafka.partitions).read({}, max_entries=1 << 20).entries
    client.close()
    return labelled((entry.payload for entry in entries), settings.fields, settings.actions.names, shown=True)


@pytest.fixture(scope="module")
def offline() -> dict[int, list[tuple]]:
    """By number of tasks, what a backtest makes of the log: it knows neither brokers nor ways to read them."""
    return {}


@BOTH_WAYS
@pytest.mark.parametrize("num_tasks", [1, 3])
def test_a_backtest_yields_the_samples_of_the_run_through_kafka(
    settings: Settings, broker: str, log: Log, num_tasks: int, offline: dict[int, list[tuple]], tmp_path: Path
) -> None:
    # Nobody learns, so nobody makes room in the outbox.
    roomy = msgspec.structs.replace(
        settings, worker=msgspec.structs.replace(settings.worker, outbox_high_water=10 * NUM_ROWS)
    )
    live = on(roomy if num_tasks == 1 else with_tasks(roomy), broker)
    log = log if num_tasks == 1 else small_log(NUM_ROWS, later_rows=True)
    partitions = live.kafka.partitions
    replay = Replay(log, ReplaySettings(num_rows=NUM_ROWS, seed=3), partitions, live.join, live.horizon_ms)
    producer = ReplayProducer(live.kafka, PaceSettings())
    producer.write(replay.whole_log())
    ends = producer.end_offsets()
    producer.close()
    client = connect(live.redis)
    store = open_store(live, client)

    def applied() -> bool:
        offsets = store.fence_offsets(range(partitions))
        return all(offsets[p][live.topics[t]] == end for (t, p), end in ends.items())

    with Role("worker", live, tmp_path) as worker:
        wait_until(applied, "the log to be applied", [worker])
    through_kafka = outbox_of(live)
    if num_tasks not in offline:
        named = msgspec.structs.replace(live.redis, prefix=f"{live.redis.prefix}-backtest")
        apart = msgspec.structs.replace(live, redis=named)
        backtest = Backtest(apart, BacktestSettings(), tmp_path / "backtest", 4_102_444_800_000)
        backtest.ingest(replay.whole_log())
        offline[num_tasks] = sorted(map(exact, outbox_of(apart)))
    assert sorted(map(exact, through_kafka)) == offline[num_tasks]
    assert len(through_kafka) > 2 * NUM_ROWS, "each impression when it passes, and its label"
    assert {sample.task for sample in through_kafka} == set(range(num_tasks)) - {1}
    client.close()


@BOTH_WAYS
def test_bad_records_go_to_the_dead_letter_topic_and_nothing_else_is_lost(
    settings: Settings, broker: str, tmp_path: Path
) -> None:
    kafka = msgspec.structs.replace(settings.kafka, url=broker)
    client = admin(kafka)
    # With Kafka's default limit the broker itself would refuse what is over 1 MiB.
    large = {"num_partitions": kafka.partitions, "replication_factor": 1, "configs": {"max.message.bytes": "4194304"}}
    client.create_topics({kafka.impressions: large}, wait_for_metadata=True)
    client.close()
    live = on(settings, broker)
    now = int(time.time() * 1000)
    good = [Impression(imp_id=f"g{n}", user_id="u", item_id="i", ts=now + n) for n in range(50)]
    bad = {
        b"\xff\xfe not an event": "object",
        b"neither JSON nor msgpack": "malformed",
        b'{"type":"impression","imp_id":"x","user_id":"u","item_id":"i"}': "ts",
        b'{"type":"impression","imp_id":"x","user_id":7,"item_id":"i","ts":1}': "user_id",
        encode_event(Impression(imp_id="x", user_id="u", item_id="i", ts=4_000_000_000_000)): "ts",
        b'{"type":"impression","imp_id":"' + b"x" * (1 << 20) + b'"}': "1048576",
    }
    producer = KafkaProducer(bootstrap_servers=broker, max_request_size=4 << 20)
    p = partition_of("u", live.kafka.partitions)
    sent: dict[int, bytes] = {}
    for n, event in enumerate(good):
        producer.send(live.kafka.impressions, value=encode_event(event), partition=p).get(10)
        if n % 8 == 5 and n // 8 < len(bad):
            value = list(bad)[n // 8]
            sent[producer.send(live.kafka.impressions, value=value, partition=p).get(10).offset] = value
    assert len(sent) == len(bad)
    producer.send(live.kafka.feedback, value=encode_event(_like("g0", now)), partition=p).get(10)
    producer.send(live.kafka.feedback, value=encode_event(_like("nothing", now - 1)), partition=p).get(10)
    producer.send(live.kafka.feedback, value=encode_event(_like("z", now + 2 * 3_600_000)), partition=p).get(10)
    producer.close()
    client = connect(live.redis)
    store = open_store(live, client)
    last = len(good) + len(sent) - 1
    with Role("worker", live, tmp_path) as worker:
        wait_until(
            lambda: store.fence_offsets([p])[p] == {live.topics[0]: last, live.topics[1]: 2},
            "the records to be applied",
            [worker],
        )
    assert store.read_user(p, "u").counts == (50, 1)
    assert store.fence_counts([p])["malformed"] == len(sent)
    letters = read_topic(broker, live.kafka.dead_letter)
    found = {}
    for letter in letters:
        headers = {k: v.decode() for k, v in letter.headers}
        assert headers["topic"] == live.kafka.impressions
        assert int(headers["partition"]) == p
        found[int(headers["offset"])] = (letter.value, headers["reason"])
    assert {offset: value for offset, (value, _) in found.items()} == sent
    assert all(bad[value] in reason for value, reason in found.values())
    client.close()


def _like(imp_id: str, ts: int) -> Feedback:
    return Feedback(imp_id=imp_id, user_id="u", item_id="i", action="like", ts=ts)


def test_a_backtest_can_be_repeated(settings: Settings, tmp_path: Path) -> None:
    log = synthetic_log(3000, seed=1)
    outcomes = []
    for n in range(2):
        folder = tmp_path / str(n)
        folder.mkdir()
        named = msgspec.structs.replace(settings.redis, prefix=f"{settings.redis.prefix}-{n}")
        summary = run_backtest(
            msgspec.structs.replace(settings, redis=named), log, ReplaySettings(seed=5), folder, BacktestSettings()
        )
        assert summary["counts_match"], summary["count_differences"]
        outcomes.append({k: v for k, v in summary.items() if k in ("auc", "log_loss", "samples", "cohorts", "ne")})
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["auc"] > 0.6
