"""A learner ends within ten seconds of SIGTERM, whatever is away, and the next one goes on."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def samples(settings: Settings, server: EmbeddedRedis) -> Iterator[Samples]:
    live = msgspec.structs.replace(settings, redis=msgspec.structs.replace(settings.redis, url=server.url))
    with redis.Redis(port=server.port) as client:
        yield Samples(client, live)


def stop_in_time(role: Role) -> None:
    began = time.monotonic()
    role.stop()
    assert time.monotonic() - began < 10
    assert role.status == 0, role.log.read_text()
    assert "Traceback" not in role.log.read_text()


@pytest.mark.parametrize("noticed", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_with_a_redis_that_answers_no_more(
    noticed: bool, samples: Samples, server: EmbeddedRedis, tmp_path: Path
) -> None:
    samples.put(200)
    with Role("learner", samples.settings, tmp_path) as learner:
        wait_until(lambda: samples.learned() == 200, "it to learn", [learner])
        samples.put(40)
        time.sleep(float(os.environ["ZZ"]))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            if noticed:
                wait_until(lambda: "waits" in learner.log.read_text(), "it to notice", [learner])
            stop_in_time(learner)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        learner.start()
        # What the first one last reported may come out of the stopped Redis: only what is trimmed is in the log.
        wait_until(lambda: samples.learned() == 240 and samples.waiting() == 0, "the rest", [learner])
    assert "restored" not in learner.log.read_text()
    samples.check_log(tmp_path)


def test_with_a_redis_that_is_gone_before_it_began(samples: Samples, server: EmbeddedRedis, tmp_path: Path) -> None:
    samples.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    learner = Role("learner", samples.settings, tmp_path).start()
    wait_until(lambda: "waits" in learner.log.read_text(), "it to notice", [learner])
    stop_in_time(learner)


@pytest.mark.parametrize(
    "place",
    [
        "checkpoint.half_written:1",
        pytest.param("checkpoint.before_rename:1", marks=pytest.mark.soak),
        pytest.param("publish.before:2", marks=pytest.mark.soak),
    ],
)
def test_in_the_middle_of_something_that_does_not_end(place: str, samples: Samples, tmp_path: Path) -> None:
    samples.put(200)
    learner = Role("learner", samples.settings, tmp_path).start({FAILPOINT: f"{place}:hang"})
    wait_until(lambda: samples.version() >= 1, "weights", [learner])
    samples.put(100)
    time.sleep(3)
    stop_in_time(learner)
    assert "ending in the middle of it" in learner.log.read_text()
    learner.start()
    wait_until(lambda: samples.learned() == 300 and samples.waiting() == 0, "the rest", [learner])
    assert list(tmp_path.rglob("*.part")) == []
    learner.stop()
    samples.check_log(tmp_path)
