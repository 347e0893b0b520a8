"""An item without a row is served alike by one process, by several on a port, and by the learner's copy."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import redis
from support.columns import columns
from support.serving import CONTEXT, Http, Trained, with_serving

from learner.samples.former import Core, Sample, State
from learner.samples.kind import SampleKind
from learner.snapshot import encode_snapshot
from state_store.embedded.redis import EmbeddedRedis
from state_store.weights import WeightStore
from stream.command.roles import Role
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings, load_settings

STARTS = ("method=nearest", "neighbours=3", "category=genres", "every=50", "evidence=0.5")
NEW = [
    Candidate(f"new{n}", {"title": [f"w{n % 7}", f"v{n % 3}"], "genres": [f"g{n % 4}"], "decade": "1990s"})
    for n in range(8)
]


def publish(trained: Trained, first_item: int) -> None:
    """Learn from samples of 25 items, of which some say more of one another than others, and publish."""
    rng, settings, out = np.random.default_rng(first_item), trained.settings, []
    for n in range(400):
        user, item = int(rng.integers(20)), first_item + int(rng.integers(25))
        label = int((user + item % 7) % 5 > 1)
        features = ["F", "25", "3", [f"w{item % 7}", f"v{item % 3}"], "1990", [f"g{item % 4}"], "1990s"]
        core = Core(f"{first_item}-{n}", f"u{user}", f"i{item}", n, 0, features)
        out.append(Sample(SampleKind(label), label, 0, core, State([0, 0], 0.0, 0, 0, [0, 0], 0.0, 0)))
    trained.learner.learn(columns(out, settings.fields, settings.actions.names))
    now_ms = time.time_ns() // 1_000_000
    assert trained.publisher.publish(trained.learner, {0: 1}, {"log_loss": 0.6}, now_ms) is not None


@pytest.fixture
def trained(redis_server: EmbeddedRedis) -> Iterator[Trained]:
    own = ["redis.prefix=content", "kafka.partitions=2", *(f"content_start.{said}" for said in STARTS)]
    settings = load_settings(environment={}, overrides=own, given={"redis.url": redis_server.url})
    with redis.Redis(port=redis_server.port) as client:
        made = Trained(settings, client)
        publish(made, 0)
        yield made


def by_the_learners_copy(trained: Trained) -> np.ndarray:
    scorer = Scorer(trained.settings, trained.store.client)
    newest = WeightStore(trained.store.client, trained.settings.redis.prefix).latest()
    assert newest is not None
    turns = scorer.versions._turns
    turns.take().load(encode_snapshot(trained.learner, None), alone=True)
    turns.put_in_force(newest)
    return scorer.score("u1", CONTEXT, NEW)


def wait_for_version(http: Http, version: int) -> None:
    deadline = time.monotonic() + 60
    while (said := http.post("/v1/weights", None))["version"] < version:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def serving(settings: Settings, workers: int, folder: Path, until: ExitStack) -> Http:
    """A scorer of so many processes."""
    settings = with_serving(settings, workers=workers)
    folder.mkdir()
    until.enter_context(Role("serve", settings, folder))
    http = Http(serving_url(settings.serving))
    http.wait()
    return http


def test_an_unknown_item_is_served_alike_by_one_process_by_two_and_by_the_learners_copy(
    trained: Trained, tmp_path: Path
) -> None:
    candidates = [{"item": new.item_id, "features": new.features} for new in NEW]
    asked = {"user": "u1", "context": CONTEXT, "candidates": candidates}
    with ExitStack() as until:
        scorers = [serving(trained.settings, workers, tmp_path / str(workers), until) for workers in (1, 2)]
        # A full version, then one with what has changed: half of its pool is new.
        for version, first_item in ((1, 0), (2, 12)):
            if version > 1:
                publish(trained, first_item)
            expected = by_the_learners_copy(trained)
            assert len(set(expected.tolist())) > 4
            for http in scorers:
                wait_for_version(http, version)
                # By a connection of its own each time, so that either of two processes is asked.
                for _ in range(6):
                    said = http.post("/v1/score", asked)
                    got = np.array([scored["probability"] for scored in said["scores"]], np.float32)
                    np.testing.assert_array_equal(got, expected)
            one, two = (http.post("/v1/explain", _of_the_first(candidates)) for http in scorers)
            assert one["content_made"]
            assert len(one["alike"]) == 3
            assert one["alike"] == two["alike"]


def _of_the_first(candidates: list[dict[str, object]]) -> dict[str, object]:
    return {"user": "u1", "context": CONTEXT, **candidates[0]}
