"""Roles as processes: they stop when asked, wait for servers that are away, end when they hang, and stay small."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from support.load import Load

from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.ingest.ending import EXIT_STALLED
from stream.kafka.topics import ensure_topics
from stream.process.status import read_status
from stream.settings import Settings

pytestmark = pytest.mark.slow

AGAIN = "(trying|tried) again"
_DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that forgets nothing when it is killed."""
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(tmp_path / "redis", _DURABLE) as server:
        yield server


def on(settings: Settings, broker: str, server: EmbeddedRedis | None = None, **worker: object) -> Settings:
    live = msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, url=broker),
        redis=msgspec.structs.replace(settings.redis, url=server.url if server else settings.redis.url),
        worker=msgspec.structs.replace(settings.worker, **worker),
    )
    ensure_topics(live.kafka)
    return live


def test_a_redis_that_was_away_is_waited_for_without_a_restart(
    settings: Settings, embedded_broker: str, durable_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    live = on(settings, embedded_broker, durable_redis)
    load = Load(live, 8000, seed=8, hold_at=6000)
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        wait_until(lambda: load.learned() > 1500, "the replay to get going", [worker, learner])
        durable_redis.kill()
        wait_until(lambda: all(notice(tmp_path)), "both roles to notice", [worker, learner])
        durable_redis.start()
        load.go_on()
        ends = load.finish(worker, learner)
    for role in ("worker", "learner"):
        said = (tmp_path / f"{role}.log").read_text()
        assert re.search(AGAIN, said)
        assert "starting anew" not in said
    load.check(ends, tmp_path)


def notice(folder: Path) -> list[bool]:
    """Whether each role has said that a server is away."""
    return [bool(re.search(AGAIN, (folder / f"{role}.log").read_text())) for role in ("worker", "learner")]


def test_roles_stop_when_asked_also_while_redis_is_away(
    settings: Settings, embedded_broker: str, durable_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    live = on(settings, embedded_broker, durable_redis)
    load = Load(live, 8000, seed=9, hold_at=6000)
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        wait_until(lambda: load.learned() > 1500, "the replay to get going", [worker, learner])
        durable_redis.kill()
        wait_until(lambda: all(notice(tmp_path)), "both roles to notice", [worker, learner])
        for role in (worker, learner):
            role.stop()
            assert role.status == 0, role.log.read_text()[-2000:]
        durable_redis.start()
        worker.start()
        learner.start()
        # Else all may have been learned, and told, before Redis went away, and nobody waits for it to be learned again.
        load.go_on()
        ends = load.finish(worker, learner)
    load.check(ends, tmp_path)


def test_a_worker_that_hangs_ends_itself_and_the_next_one_goes_on(
    settings: Settings, broker: str, tmp_path: Path
) -> None:
    live = on(settings, broker, stalled_after_s=3.0)
    load = Load(live, 5000, seed=10)
    load.start()
    hanging = Role("worker", live, tmp_path).start({FAILPOINT: "worker.before_apply:3:hang"})
    wait_until(lambda: hanging.status is not None, "the watchdog to end the worker")
    assert hanging.status == EXIT_STALLED
    assert "no fence has moved for 3 s" in hanging.log.read_text()
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        ends = load.finish(worker, learner)
    load.check(ends, tmp_path)


def test_a_partition_that_somebody_took_over_without_being_its_groups_is_taken_back(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    """As a member does that stood still between being given a partition and taking it over."""
    live = on(settings, embedded_broker, session_timeout_s=1.5)
    load = Load(live, 5000, seed=12, hold_at=2000)
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        wait_until(lambda: load.learned() > 200, "the replay to get going", [worker, learner])
        load.store.open_epoch(0)
        load.go_on()
        ends = load.finish(worker, learner)
        assert "is this one's by its group" in worker.log.read_text()
    load.check(ends, tmp_path)


def resident_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


def test_while_the_learner_is_away_no_process_grows(
    settings: Settings, embedded_broker: str, durable_redis: EmbeddedRedis, tmp_path: Path, long: bool
) -> None:
    """The backlog stays in Kafka; worker and Redis hold what the outbox's high water allows, however much comes."""
    live = on(settings, embedded_broker, durable_redis, outbox_high_water=500)
    more = 200_000 if long else 20_000
    load = Load(live, 20_000 + more, seed=6, events_per_s=10_000, hold_at=20_000)
    with Role("worker", live, tmp_path) as worker:
        with Role("learner", live, tmp_path) as learner:
            wait_until(lambda: read_status(load.client, live.redis.prefix) is not None, "the learner", [learner])
            load.start()
            wait_until(lambda: load.learned() > 2000, "the replay to get going", [worker, learner])
        learned = {p: int(load.client.get(load.store.keys.learned(p)) or 0) for p in range(load.partitions)}
        full = lambda: any(n - learned[p] > 500 for p, n in load.outbox.sequences().items())  # noqa: E731
        wait_until(full, "the outbox to fill", [worker])
        time.sleep(1)
        held, written = load.outbox.sequences(), load.producer.num_sent
        before = {"worker": resident_mib(worker.pid), "redis": resident_mib(durable_redis.pid)}
        load.go_on()
        progress = lambda: load.producer.num_sent  # noqa: E731
        wait_until(lambda: progress() > written + more, "more events", [worker], progress=progress)
        assert load.outbox.sequences() == held
        assert resident_mib(worker.pid) < before["worker"] + 30
        assert resident_mib(durable_redis.pid) < before["redis"] + 5
        with Role("learner", live, tmp_path) as learner:
            ends = load.finish(worker, learner)
            assert resident_mib(learner.pid) < 700
    load.check(ends, tmp_path)


def test_a_learner_that_begins_behind_trimmed_samples_says_how_many_it_misses(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    live = on(settings, embedded_broker)
    load = Load(live, 6000, seed=12, hold_at=4000)
    with Role("worker", live, tmp_path) as worker:
        load.start()
        status = lambda: read_status(load.client, live.redis.prefix)  # noqa: E731
        with Role("learner", live, tmp_path / "first") as learner:
            wait_until(lambda: load.learned() > 1500, "the replay to get going", [worker, learner])
        learned = load.learned()
        load.go_on()
        with Role("learner", live, tmp_path / "other") as other:
            load.finish(worker, other)
            wait_until(lambda: status().num_missed > 0, "the learner to report", [other])
    missed = status().num_missed
    # An entry that the first learner had learned in part is still there, so it may be fewer than were learned.
    assert 0 < missed <= learned
    assert missed + status().num_trained == sum(load.outbox.sequences().values())
    said = (tmp_path / "other" / "learner.log").read_text()
    assert f"{missed} samples" in said
    assert "--run" in said


def test_publishes_norms_and_roll_ups_are_due_by_number_too(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    """As in a replay faster than life: none of the timers is due while it runs."""
    never = 10_000.0
    live = msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker),
        worker=msgspec.structs.replace(settings.worker, roll_up_s=never, roll_up_records=1000),
        publish=msgspec.structs.replace(
            settings.publish,
            interval_s=never,
            interval_samples=1500,
            norms_samples=200,
            checkpoint_s=never,
            # Of so few samples the recent loss says little; a publish that the gate holds back is not late.
            max_log_loss_rise=1000,
        ),
        learner=msgspec.structs.replace(settings.learner, block=50, micro_batch=50),
    )
    ensure_topics(live.kafka)
    load = Load(live, 4000, seed=3)
    with Role("worker", live, tmp_path) as worker, Role("learner", live, tmp_path) as learner:
        load.start()
        load.finish(worker, learner)
        status = read_status(load.client, live.redis.prefix)
        assert status is not None
        # How many samples come between two looks at what is due depends on how busy the machine is.
        assert 2 < status.version <= status.num_trained // 1500
        assert status.num_trained - status.num_at_norms < 200 + 50
        states = [load.store.read_user(0, user) for user in load.store.iter_counters(0, "u")]
        assert np.mean([state.norm > 0 for state in states]) > 0.9
        ahead = [state for state in states if state.norm_version > status.version]
        assert ahead, "norms are written between publishes, for the weights that come next"
        counters = [load.store.iter_counters(p, "i") for p in (0, 1)]
        item = max(counters[0].keys() & counters[1].keys(), key=lambda i: counters[0][i]["impressions"])
        own, elsewhere = (of[item]["impressions"] for of in counters)
        [state] = load.store.read_items(0, [item])
        assert own < state.counts[0] <= own + elsewhere
    load.client.close()
