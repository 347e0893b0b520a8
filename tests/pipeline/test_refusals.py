"""A Redis that answers, and says no: the learner waits, goes on by itself, and loses nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.monitor.figures.bucket import COUNT
from stream.monitor.history.history import HistoryReader
from stream.monitor.history.recorder import read_buckets, run_name
from stream.monitor.page.view import View
from stream.process.status import read_folder_status
from stream.settings import Settings

pytestmark = pytest.mark.slow

Refusal = Callable[[redis.Redis, Path], None]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(tmp_path / "redis", ("--save", "")) as running:
        yield running


@pytest.fixture
def live(settings: Settings, server: EmbeddedRedis) -> Settings:
    return msgspec.structs.replace(
        settings,
        redis=msgspec.structs.replace(settings.redis, url=server.url, timeout_s=1.0),
        monitor=msgspec.structs.replace(settings.monitor, twin_share=1.0, bucket_s=0.5),
    )


@pytest.fixture
def samples(live: Settings, server: EmbeddedRedis) -> Iterator[Samples]:
    with redis.Redis(port=server.port) as client:
        yield Samples(client, live)


@contextmanager
def full(client: redis.Redis, _: Path) -> Iterator[None]:
    client.config_set("maxmemory", "1mb")
    yield
    client.config_set("maxmemory", "0")


@contextmanager
def read_only(client: redis.Redis, _: Path) -> Iterator[None]:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def too_few_replicas(client: redis.Redis, _: Path) -> Iterator[None]:
    client.config_set("min-replicas-to-write", 1)
    yield
    client.config_set("min-replicas-to-write", 0)


@contextmanager
def cannot_save(client: redis.Redis, folder: Path) -> Iterator[None]:
    in_the_way = folder / "redis" / "folder.rdb"
    in_the_way.mkdir()
    client.config_set("stop-writes-on-bgsave-error", "yes")
    client.config_set("save", "3600 1")
    client.config_set("dbfilename", in_the_way.name)
    failed = lambda: client.info("persistence")["rdb_last_bgsave_status"]  # noqa: E731 - a condition
    client.bgsave()
    wait_until(lambda: failed() == "err", "the save to fail")
    yield
    in_the_way.rmdir()
    client.bgsave()
    wait_until(lambda: failed() == "ok", "the save to work")


@contextmanager
def busy(client: redis.Redis, _: Path) -> Iterator[None]:
    client.config_set("lua-time-limit", 50)

    def spin() -> None:
        with redis.Redis(port=client.connection_pool.connection_kwargs["port"], socket_timeout=60) as other:
            other.eval("while true do end", 0)

    def spin_until_killed() -> None:
        with suppress(redis.ResponseError):
            spin()

    spinner = threading.Thread(target=spin_until_killed)
    spinner.start()
    time.sleep(0.3)
    yield
    client.script_kill()
    spinner.join()


@contextmanager
def login_changed(client: redis.Redis, _: Path) -> Iterator[None]:
    client.config_set("requirepass", "other")
    client.client_kill_filter(_type="normal", skipme=True)
    yield
    client.config_set("requirepass", "")


@contextmanager
def right_taken(client: redis.Redis, _: Path) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "default", "-xrange", "-evalsha")
    yield
    client.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def right_taken_in_scripts(client: redis.Redis, _: Path) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "default", "-del")
    yield
    client.execute_command("ACL", "SETUSER", "default", "+@all")


CAUSES = {
    "OOM": full,
    "READONLY": read_only,
    "NOREPLICAS": too_few_replicas,
    "MISCONF": cannot_save,
    "BUSY": busy,
    "the login": login_changed,
    "NOPERM": right_taken,
    "lacks a right": right_taken_in_scripts,
}


ALWAYS = ("OOM", "lacks a right")
"""The others come in the soak, and one after the other in the test of chaos."""


@pytest.mark.parametrize(
    "said", [said if said in ALWAYS else pytest.param(said, marks=pytest.mark.soak) for said in CAUSES]
)
def test_each_refusal_is_waited_for_and_told(said: str, live: Settings, samples: Samples, tmp_path: Path) -> None:
    samples.put(400)
    with Role("learner", live, tmp_path) as learner:
        wait_until(lambda: samples.version() >= 1, "weights", [learner])
        with CAUSES[said](samples.client, tmp_path):
            wait_until(lambda: bool(told_in(tmp_path)), "the learner to notice", [learner])
            time.sleep(2)
            learner.check()
            [condition, *_] = told_in(tmp_path)
            assert said in condition.said
            assert abs(condition.since_ms / 1000 - time.time()) < 60
        samples.put(200)
        wait_until(lambda: samples.learned() == 600 and samples.waiting() == 0, "all of it", [learner])
        waited = lambda: sum(samples.status().waited_s.values())  # noqa: E731 - a condition
        wait_until(lambda: waited() > 1 and not samples.status().waits, "nothing more to wait for", [learner])
        assert samples.status().num_missed == 0
        version = samples.version()
        wait_until(lambda: samples.version() > version, "newer weights", [learner])
    assert learner.status == 0
    said_by = learner.log.read_text()
    assert "Traceback" not in said_by
    assert "restored" not in said_by
    assert said_by.count(" still waits") == 0
    samples.check_log(tmp_path)
    check_history(live, samples, tmp_path)
    assert told_in(tmp_path) == []


def told_in(folder: Path) -> list:
    """What the run folder says that the learner waits for."""
    status = read_folder_status(folder)
    return status.waits if status is not None else []


def check_history(live: Settings, samples: Samples, folder: Path) -> None:
    """The history in Redis has what the run folder has, which is everything."""
    users = slice(0, View(live).scheme.num_users)
    in_folder = read_buckets(folder)
    in_redis = HistoryReader(samples.client, live.redis.prefix).read(run_name(folder, 0))
    for buckets in (in_folder, in_redis):
        assert round(sum(float(b.sums_CM[users, COUNT].sum()) for b in buckets)) == samples.num


def test_a_full_redis_gets_room_again_by_a_learner_that_starts(
    live: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(4000)
    used = samples.client.info("memory")["used_memory"]
    samples.client.config_set("maxmemory", used - 10_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        samples.put(20)
    samples.num -= 20
    with Role("learner", live, tmp_path) as learner:
        wait_until(lambda: samples.waiting() == 0, "the outbox to drain", [learner])
        wait_until(lambda: samples.client.info("memory")["used_memory"] < used - 10_000, "room", [learner])
        samples.client.config_set("maxmemory", 0)
        samples.put(20)
        wait_until(lambda: samples.learned() == samples.num, "the rest", [learner])
    samples.check_log(tmp_path)
    check_history(live, samples, tmp_path)


def test_what_was_trimmed_while_redis_was_full_is_in_the_history_after_a_crash(
    live: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(400)
    with Role("learner", live, tmp_path) as learner:
        wait_until(lambda: samples.version() >= 1, "weights", [learner])
        samples.put(400)
        samples.client.config_set("maxmemory", "1mb")
        wait_until(lambda: samples.learned() == 800 and samples.waiting() == 0, "the outbox to drain", [learner])
        learner.kill()
        samples.client.config_set("maxmemory", 0)
        learner.start()
        samples.put(100)
        wait_until(lambda: samples.learned() == 900, "the rest", [learner])
    assert "restored" not in learner.log.read_text()
    samples.check_log(tmp_path)
    check_history(live, samples, tmp_path)


@contextmanager
def loading(client: redis.Redis, folder: Path) -> Iterator[None]:
    """Redis loads what it has for as long as the context lasts: from a pipe, of which it gets the rest only then."""
    client.save()
    dump = folder / "redis" / "dump.rdb"
    whole = dump.read_bytes()
    dump.unlink()
    os.mkfifo(dump)
    is_enough = threading.Event()

    def feed() -> None:
        with dump.open("wb", buffering=0) as pipe:
            for at in range(0, len(whole), _PART):
                left = memoryview(whole)[at : at + _PART]
                while left:
                    left = left[pipe.write(left) :]
                is_enough.wait(2.0)

    def reload() -> None:
        with redis.Redis(port=client.connection_pool.connection_kwargs["port"], socket_timeout=600) as other:
            other.execute_command("DEBUG", "RELOAD", "NOSAVE")

    threads = [threading.Thread(target=call, daemon=True) for call in (feed, reload)]
    for thread in threads:
        thread.start()
    is_loading = lambda: bool(client.info("persistence")["loading"])  # noqa: E731 - a condition
    try:
        wait_until(is_loading, "the loading to begin")
        yield
        assert is_loading(), "it was to last for longer"
    finally:
        is_enough.set()
        for thread in threads:
            thread.join(60)
        dump.unlink()


_PART = 2 << 20
"""Bytes that Redis reads between two looks at who asks for something."""


def test_a_redis_that_loads_is_waited_for_at_the_start_and_later(
    live: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(400)
    with samples.client.pipeline() as pipe:
        for n in range(80):
            pipe.set(f"more:{n}", os.urandom(1 << 20))
        pipe.execute()
    patient = msgspec.structs.replace(live, redis=msgspec.structs.replace(live.redis, timeout_s=20.0))
    learner = Role("learner", patient, tmp_path)
    for expected in (400, 600):
        with loading(samples.client, tmp_path):
            if expected == 400:
                learner.start()
            wait_until(lambda: "LOADING" in learner.log.read_text(), "the learner to notice", [learner])
        samples.put(expected - samples.num)
        wait_until(lambda: samples.learned() == samples.num and samples.waiting() == 0, "all of it", [learner])
        learner.log.write_text("")
    learner.stop()
    assert learner.status == 0
    samples.check_log(tmp_path)


def test_a_replica_is_waited_for_at_the_start_and_an_address_without_redis_is_not(
    live: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(100)
    samples.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    with Role("learner", live, tmp_path) as learner:
        wait_until(lambda: "READONLY" in learner.log.read_text(), "the learner to notice", [learner])
        wait_until(lambda: [c.step for c in told_in(tmp_path)] == ["open"], "the run folder to say so", [learner])
        samples.client.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: samples.learned() == 100, "all of it", [learner])
    nowhere = msgspec.structs.replace(live, redis=msgspec.structs.replace(live.redis, url="redis://127.0.0.1:1"))
    lost = Role("learner", nowhere, tmp_path / "other").start()
    wait_until(lambda: lost.status is not None, "the learner to end")
    assert lost.status == 1
    assert "no usable Redis" in lost.log.read_text()
    assert "Traceback" not in lost.log.read_text()
