"""What is waited for, as the monitor tells it: of roles that report, of those that cannot, and of Redis itself."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from support.web import fetch

from state_store.embedded.child import free_port
from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.monitor.page.health import Health
from stream.monitor.page.view import View
from stream.monitor.prometheus import exposition
from stream.process.status import StatusFile
from stream.process.store import open_store
from stream.process.weather import Weather
from stream.settings import Settings


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def live(settings: Settings, server: EmbeddedRedis) -> Settings:
    return msgspec.structs.replace(
        settings,
        redis=msgspec.structs.replace(settings.redis, url=server.url, timeout_s=1.0),
        monitor=msgspec.structs.replace(settings.monitor, port=free_port(), twin_share=0.5),
    )


def who(health: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(wait["role"], wait["name"], wait["step"]) for wait in health["waits"]]


def test_a_redis_that_refuses_is_found_by_a_probe(live: Settings, server: EmbeddedRedis) -> None:
    with redis.Redis(port=server.port) as client:
        health = Health(live, client)
        assert who(health.read()) == []
        client.config_set("maxmemory", 1)
        time.sleep(1.1)
        found = health.read()
        assert who(found) == [("redis", "redis", "write")]
        assert any("OOM" in said for said in found["missing"])
        client.config_set("maxmemory", 0)
        time.sleep(1.1)
        found = health.read()
        assert who(found) == []
        assert not any("OOM" in said for said in found["missing"])
        assert found["waited"][0]["seconds"] > 1


def test_a_redis_that_is_gone_leaves_what_was_known(live: Settings, server: EmbeddedRedis) -> None:
    with redis.Redis(port=server.port) as client:
        health = Health(live, client)
        client.hset(open_store(live, client).keys.fence(0), "n:impressions", 5)
        assert health.read()["counts"] == {"impressions": 5}
        server.kill()
        time.sleep(1.1)
        found = health.read()
        assert who(found) == [("redis", "redis", "answer")]
        assert found["counts"] == {"impressions": 5}
        text = exposition(View(live).show([], []), found).decode()
    waiting = {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "coldstream_waiting_seconds"
    }
    assert list(waiting) == [("redis", "redis", "answer")]
    assert "coldstream_ready 0.0" in text


def test_roles_conditions_are_shown_longest_first(live: Settings, server: EmbeddedRedis, tmp_path: Path) -> None:
    with redis.Redis(port=server.port) as client:
        now = time.time_ns() // 1_000_000
        wait = {"step": "apply", "said": "kafka is away", "since_ms": now - 9000, "attempts": 3}
        report = {"time_ms": now, "partitions": [0], "lag": {}, "waits": [wait], "waited_s": {"apply": 9.0}}
        client.hset(open_store(live, client).keys.worker_status, "w1", msgspec.json.encode(report))
        # The learner's report did not reach Redis; its run folder has it.
        weather = Weather(logging.getLogger("test"))
        weather.failed("checkpoint", "run folder x cannot be written")
        StatusFile(tmp_path, weather).keep()
        found = Health(live, client, tmp_path).read()
        assert who(found) == [("worker", "w1", "apply"), ("learner", "learner", "checkpoint")]
        assert {"role": "worker", "name": "w1", "step": "apply", "seconds": 9.0} in found["waited"]


@pytest.mark.slow
def test_the_page_s_server_names_the_refusal_and_ends_when_asked_whatever_is_away(
    live: Settings, server: EmbeddedRedis, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{live.monitor.port}"
    with redis.Redis(port=server.port) as client, Role("monitor", live, tmp_path) as monitor:
        wait_until(lambda: answers(url), "the page", [monitor])
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        wait_until(lambda: "READONLY" in fetch(url + "/readyz")[1], "the refusal to be told", [monitor])
        status, said = fetch(url + "/readyz")
        assert (status, "READONLY" in said) == (503, True)
        assert 'coldstream_waiting_seconds{name="redis",role="redis",step="write"}' in fetch(url + "/metrics")[1]
        client.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: "READONLY" not in fetch(url + "/readyz")[1], "the end to be told", [monitor])
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert fetch(url + "/metrics")[0] == 200
            wait_until(lambda: 'step="answer"' in fetch(url + "/metrics")[1], "it to be told", [monitor])
            slow = subprocess.Popen(["curl", "--silent", "--limit-rate", "10k", url + "/plotly.js"], stdout=-3)
            time.sleep(1)
            began = time.monotonic()
            monitor.stop()
            assert monitor.status == 0
            assert time.monotonic() - began < 10
            slow.kill()
            slow.wait()
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert "Traceback" not in monitor.log.read_text()


def answers(url: str) -> bool:
    try:
        return fetch(url + "/healthz")[0] == 200
    except OSError:
        return False
