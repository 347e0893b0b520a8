"""The same pipeline on a Redis Cluster of three masters."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from redis.cluster import RedisCluster
from support.load import Load
from support.logs import first_user
from support.redis_cluster import EmbeddedRedisCluster
from support.serving import Http, with_serving

from state_store.client import connect
from stream.command.doctor import examine
from stream.command.roles import Role, wait_until
from stream.kafka.topics import ensure_topics
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedRedisCluster]:
    with EmbeddedRedisCluster(tmp_path / "cluster") as servers:
        yield servers


@pytest.fixture
def live(settings: Settings, embedded_broker: str, cluster: EmbeddedRedisCluster) -> Settings:
    live = msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker, partitions=4),
        redis=msgspec.structs.replace(settings.redis, url=cluster.url),
    )
    ensure_topics(live.kafka)
    return live


def test_partitions_live_on_different_masters_and_everything_works(
    live: Settings, cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    load = Load(live, 8000, seed=21)
    assert isinstance(load.client, RedisCluster)
    assert len({cluster.node_of(load.store.keys.fence(p)).port for p in range(4)}) == 3
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        ends = load.finish(worker, learner)
        findings = [finding for finding in examine(live) if not finding.is_ok]
        assert findings == []
    client = connect(live.redis)
    scorer = Scorer(live, client)
    scorer.refresh()
    user = first_user(load.log)
    scores = scorer.score(user, {}, [Candidate("1"), Candidate("2")])
    assert len(scores) == 2
    assert np.isfinite(scores).all()
    serving = with_serving(live)
    with Role("serve", serving, tmp_path):
        http = Http(serving_url(serving.serving))
        http.wait("/v1/weights")
        said = http.post("/v1/score", {"user": user, "candidates": ["1", "2"]})
        assert (said["degraded"], len(said["scores"]), said["missing"].get("user")) == (False, 2, None)
    client.close()
    load.check(ends, tmp_path)


def test_a_master_that_is_killed_and_comes_back_under_load_is_waited_for(
    live: Settings, cluster: EmbeddedRedisCluster, tmp_path: Path
) -> None:
    load = Load(live, 9000, seed=22)
    master = cluster.node_of(load.store.keys.fence(0))
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        wait_until(lambda: load.learned() > 1500, "the replay to get going", [worker, learner])
        master.kill()
        # Until the other masters refuse, too, and both roles have met that.
        others = [node for node in cluster.nodes if node is not master]
        wait_until(lambda: not any(map(cluster.is_ok, others)), "the cluster to fail", [worker, learner])
        time.sleep(1)
        for role in (worker, learner):
            role.check()
        master.start()
        wait_until(lambda: all(map(cluster.is_ok, cluster.nodes)), "the cluster to heal", [worker, learner])
        # All may have been learned before; a learner that does not know yet that Redis is back leaves no checkpoint.
        found_back = lambda: "read goes on" in (tmp_path / "learner.log").read_text()  # noqa: E731 - a condition
        wait_until(found_back, "the learner to find Redis back", [worker, learner])
        ends = load.finish(worker, learner)
    for role in ("worker", "learner"):
        said = (tmp_path / f"{role}.log").read_text()
        assert re.search("(trying|tried) again", said)
        assert "starting anew" not in said
    load.check(ends, tmp_path)
