"""The loop closed: what the scorer served, learned behind Kafka, is what the monitor shows as served."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from confluent_kafka import Producer
from support.serving import CONTEXT, ITEM, Http, with_serving

from learner.metrics import log_loss
from state_store.outbox import Outbox
from state_store.weights import WeightStore
from stream.command.roles import Role, wait_until
from stream.events import Event, Feedback, Heartbeat, encode_event
from stream.kafka.topics import ensure_topics
from stream.monitor.history.history import SERVED, HistoryReader
from stream.monitor.page.view import View
from stream.partitioning import partition_of
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.process.store import open_store
from stream.serving.address import serving_url
from stream.settings import Settings

pytestmark = pytest.mark.slow

USERS, ITEMS, ROUNDS, PROBES, EACH = 6, 9, 30, 5, 3
WINDOW_MS = 1000


class Shop:
    """A scorer, a worker and a learner, and somebody who is shown what is scored.

    Args:
        live: settings, with URLs.
        client: Redis.
        folder: of the run.
    """

    def __init__(self, live: Settings, client: redis.Redis, folder: Path) -> None:
        self._live, self._client, self._stack = live, client, ExitStack()
        self._roles = [self._stack.enter_context(Role(name, live, folder)) for name in ("learner", "worker", "serve")]
        self.http = Http(serving_url(live.serving))
        self.http.wait()
        self._producer = Producer({"bootstrap.servers": live.kafka.url})
        self._store, self._outbox = open_store(live, client), Outbox(client, live.redis.prefix, live.kafka.partitions)
        self._weights = WeightStore(client, live.redis.prefix)
        self.now_ms = time.time_ns() // 1_000_000 - 3_600_000
        self.served: dict[str, dict[str, Any]] = {}
        """By impression: what was served, and the label that follows."""

    def close(self) -> None:
        self._stack.close()

    def show(self, user: str, items: list[str]) -> list[str]:
        """Have candidates scored, and show them all; their impressions."""
        candidates = [{"item": item, "features": ITEM} for item in items]
        asked = {"user": user, "context": CONTEXT, "candidates": candidates, "ts": self.now_ms}
        answer = self.http.post("/v1/score", asked)
        assert not answer["degraded"]
        imp_ids = [scored["imp_id"] for scored in answer["scores"]]
        assert self.http.post("/v1/shown", {"imp_ids": imp_ids, "ts": self.now_ms})["unknown"] == []
        for scored in answer["scores"]:
            said = {"user": user, "item": scored["item"], "probability": scored["probability"]}
            self.served[scored["imp_id"]] = {**said, "version": answer["version"], "label": 0}
        self.now_ms += 1
        return imp_ids

    def like(self, imp_id: str) -> None:
        of = self.served[imp_id]
        of["label"] = 1
        event = Feedback(imp_id=imp_id, user_id=of["user"], item_id=of["item"], action="like", ts=self.now_ms)
        self._write(self._live.kafka.feedback, event, partition_of(of["user"], self._live.kafka.partitions))

    def close_windows(self) -> None:
        """Every impression that was shown is applied; then time passes, and all that follows from it is learned."""
        users = {of["user"] for of in self.served.values()}
        partitions = self._live.kafka.partitions
        count = lambda: sum(self._store.read_user(partition_of(u, partitions), u).counts[0] for u in users)  # noqa: E731
        wait_until(lambda: count() == len(self.served), "impressions", self._roles, progress=count)
        self.now_ms += WINDOW_MS + 2
        for partition in range(partitions):
            for topic in (self._live.kafka.impressions, self._live.kafka.feedback):
                self._write(topic, Heartbeat(ts=self.now_ms), partition)
        fences = [self._store.keys.fence(partition) for partition in range(partitions)]
        marks = lambda: [float(self._client.hget(fence, "watermark") or 0) for fence in fences]  # noqa: E731
        wait_until(lambda: min(marks()) >= self.now_ms - 1, "time to pass", self._roles, progress=marks)
        wait_until(self._is_learned, "the samples", self._roles)

    def _is_learned(self) -> bool:
        """Whether the version in use has learned all that there is."""
        newest, sequences = self._weights.latest(), self._outbox.sequences()
        assert newest is not None
        has_all = all(newest.learned.get(str(p), 0) == sequence for p, sequence in sequences.items())
        return has_all and self.http.ask("/v1/weights")[1]["version"] == newest.version

    def _write(self, topic: str, event: Event, partition: int) -> None:
        self._producer.produce(topic, encode_event(event), partition=partition)
        assert self._producer.flush(10) == 0


@pytest.fixture
def live(settings: Settings, embedded_broker: str) -> Settings:
    changed = with_serving(
        msgspec.structs.replace(
            settings,
            # Of several, each knows of an item what the others have said of it some moments ago.
            kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker, partitions=1),
            join=msgspec.structs.replace(
                settings.join, window_ms=WINDOW_MS, lateness_ms=1, attribution_ms=600_000, settle_ms=0
            ),
            publish=msgspec.structs.replace(settings.publish, interval_s=0.2),
        ),
        enabled=True,
        log=True,
    )
    ensure_topics(changed.kafka)
    return changed


@pytest.fixture
def shop(live: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(live, client, tmp_path)
    yield made
    made.close()


def test_what_was_served_is_what_is_measured(live: Settings, client: redis.Redis, tmp_path: Path, shop: Shop) -> None:
    rng, late = np.random.default_rng(4), []
    for _ in range(2):
        for _ in range(ROUNDS // 2):
            items = [f"i{n}" for n in rng.choice(ITEMS, EACH, replace=False)]
            liked, later, *_ = shop.show(f"u{rng.integers(USERS)}", items)
            shop.like(liked)
            late.append(later)
        shop.close_windows()
        # Their negatives have been told, and learned.
        for imp_id in late:
            shop.like(imp_id)
        late.clear()
        shop.close_windows()
    probes = []
    for n in range(PROBES):
        [probe] = shop.show(f"u{n % USERS}", [f"i{n % ITEMS}"])
        probes.append(probe)
        if n % 2:
            shop.like(probe)
        shop.close_windows()
    shop.close()
    log = read_predictions(tmp_path / "predictions")
    check_log(shop, log)
    own = dict(matured(log).select("imp_id", "prediction").iter_rows())
    # Between the version that was asked and the label nothing was learned.
    for probe in probes:
        assert abs(shop.served[probe]["probability"] - own[probe]) <= 1e-6
    [run] = HistoryReader(client, live.redis.prefix).runs()
    buckets = HistoryReader(client, live.redis.prefix).read(run, SERVED)
    check_figures(shop, own, View(live).show([], served=buckets)["served"]["whole"])


def check_log(shop: Shop, log: pl.DataFrame) -> None:
    rows = matured(log).select("imp_id", "label", "served_probability", "served_version", "served_canary").rows()
    assert {row[0]: row[1:] for row in rows} == {
        imp_id: (of["label"], of["probability"], of["version"], False) for imp_id, of in shop.served.items()
    }


def check_figures(shop: Shop, own: dict[str, float], rows: list[dict[str, Any]]) -> None:
    served = list(shop.served.values())
    p, q = np.array([of["probability"] for of in served]), np.array([own[imp_id] for imp_id in shop.served])
    labels = np.array([of["label"] for of in served])
    everything = rows[0]
    assert (everything["dimension"], everything["samples"]) == ("all", len(served))
    assert everything["positives"] == labels.sum()
    assert everything["log_loss"].value == pytest.approx(log_loss(labels, p), rel=1e-4)
    assert everything["benefit"].value == pytest.approx(log_loss(labels, q) - log_loss(labels, p), abs=1e-5)
    assert everything["calibration"].value == pytest.approx(p.sum() / labels.sum(), rel=1e-4)
    assert everything["skew"] == pytest.approx((p - q).mean(), abs=1e-6)
    assert everything["skew_abs"] == pytest.approx(np.abs(p - q).mean(), rel=1e-4)
    # Others were served by weights that had learned less.
    assert everything["skew_abs"] > 1e-3
    versions = [row for row in rows if row["dimension"] == "version"]
    assert sum(row["samples"] for row in versions) == len(served)
    assert len(versions) > 2
