"""Two learners on one run folder, or under one prefix: one of them learns, and each sample once."""

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from state_store.errors import LostOwnershipError
from state_store.outbox import Outbox
from state_store.weights import Manifest, WeightStore
from stream.command.roles import Role, wait_until
from stream.process.folder_lock import FolderLock, RunFolderError
from stream.process.store import open_store
from stream.settings import Settings
from stream.training.lease import Lease, Owner, folder_id, read_owner

pytestmark = pytest.mark.slow


def second(settings: Settings, way: str) -> Settings:
    return msgspec.structs.replace(settings, publish=msgspec.structs.replace(settings.publish, second=way))


class NamedRole(Role):
    """A role with a log of its own, as two that share a folder must not share that."""

    tag = "first"

    @property
    def log(self) -> Path:
        return self._folder.parent / f"{self.tag}.log"


def learner_of(settings: Settings, folder: Path, tag: str) -> NamedRole:
    role = NamedRole("learner", settings, folder)
    role.tag = tag
    return role


@pytest.fixture
def samples(settings: Settings, client: redis.Redis) -> Samples:
    return Samples(client, settings)


def said(role: Role, what: str) -> bool:
    return role.log.exists() and what in role.log.read_text()


def test_a_second_learner_waits_and_takes_over_when_the_first_ends(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    samples.put(300)
    with learner_of(settings, folder, "first") as first:
        wait_until(lambda: samples.learned() == 300 and samples.waiting() == 0, "the first", [first])
        next_one = learner_of(settings, folder, "second").start()
        wait_until(lambda: said(next_one, "in use by a learner, process"), "the second to wait", [first, next_one])
        held = sorted((p, p.stat().st_mtime_ns) for p in (folder / "checkpoints").iterdir())
        time.sleep(1)
        assert sorted((p, p.stat().st_mtime_ns) for p in (folder / "checkpoints").iterdir()) == held
        first.stop()
        assert first.status == 0
        samples.put(300)
        wait_until(lambda: samples.learned() == 600, "the second", [next_one])
        assert samples.status().num_missed == 0
        next_one.stop()
        assert "restored" not in first.log.read_text() + next_one.log.read_text()
    samples.check_log(folder)


def test_a_second_learner_may_refuse(settings: Settings, samples: Samples, tmp_path: Path) -> None:
    samples.put(100)
    refusing = second(settings, "refuse")
    with learner_of(settings, tmp_path / "run", "first") as first:
        wait_until(lambda: samples.learned() == 100, "the first", [first])
        for folder, why in (("run", "is in use by a learner"), ("other", "has a learner with another run folder")):
            refused = learner_of(refusing, tmp_path / folder, folder).start()
            wait_until(lambda: refused.status is not None, "the second to end", [first])  # noqa: B023 - at once
            text = refused.log.read_text()
            assert refused.status == 1
            assert why in text
            assert f"process {first.pid}" in text
            assert "publish.second=wait" in text
            assert "Traceback" not in text
        samples.put(100)
        wait_until(lambda: samples.learned() == 200, "the first to go on", [first])
    samples.check_log(tmp_path / "run")


def test_whoever_waits_ends_at_once_when_asked_and_a_kill_lets_the_next_in(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    samples.put(100)
    first = learner_of(settings, folder, "first").start()
    wait_until(lambda: samples.learned() == 100, "the first", [first])
    for where, why in ((folder, "in use by a learner"), (tmp_path / "other", "with another run folder")):
        waiting = learner_of(settings, where, where.name).start()
        wait_until(lambda: said(waiting, why), "it to wait", [first, waiting])  # noqa: B023 - called at once
        # It would wait for as long as the first one is there.
        waiting.stop()
        assert waiting.status == 0
    first.kill()
    samples.put(100)
    next_one = learner_of(second(settings, "refuse"), folder, "next").start()
    # It would have refused, had what is left of the first one stood in its way.
    wait_until(lambda: samples.learned() == 200, "the next", [next_one])
    next_one.stop()
    assert "restored" not in next_one.log.read_text()
    samples.check_log(folder)


def test_a_learner_that_was_stopped_for_too_long_writes_nothing_more(
    settings: Settings, samples: Samples, tmp_path: Path
) -> None:
    samples.put(200)
    with learner_of(settings, tmp_path / "one", "one") as one, learner_of(settings, tmp_path / "two", "two") as two:
        wait_until(lambda: samples.version() >= 1 and samples.waiting() == 0, "one of them", [one, two])
        holder = read_owner(samples.client, settings.redis.prefix)
        assert holder is not None
        old, new = (one, two) if holder.pid == one.pid else (two, one)
        os.kill(old.pid, signal.SIGSTOP)
        folder = tmp_path / old.tag
        held = sorted(p.name for p in (folder / "checkpoints").iterdir())
        took_over = lambda: read_owner(samples.client, settings.redis.prefix)  # noqa: E731 - a condition
        wait_until(lambda: took_over() is not None and took_over().pid == new.pid, "the other to take over", [new])
        samples.put(200)
        wait_until(lambda: samples.learned() == 400, "the other to learn", [new])
        version = samples.version()
        os.kill(old.pid, signal.SIGCONT)
        wait_until(lambda: old.status is not None, "the first to find out", [new])
        assert old.status == 1
        text = old.log.read_text()
        assert "another learner has taken redis.prefix" in text
        assert "Traceback" not in text
        assert "restored" not in text
        assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == held
        samples.put(200)
        wait_until(lambda: samples.learned() == 600 and samples.version() > version, "the other to go on", [new])
        assert "restored" not in new.log.read_text()


# What each of them stands on ----------------------------------------------------------------------------------------


def test_an_owner_that_was_followed_can_write_nothing(
    settings: Settings, client: redis.Redis, samples: Samples
) -> None:
    prefix, store = settings.redis.prefix, open_store(settings, client)
    samples.put(40)
    old, new = Outbox(client, prefix, 2), Outbox(client, prefix, 2)
    number = old.own(5)
    old.report_learned({0: 20})
    client.set(store.keys.owner(1), 90)
    assert new.own(6) > 90
    assert client.get(store.keys.owner(0)) == client.get(store.keys.owner(1))
    for attempt in (
        lambda: old.read({}, max_entries=9),
        lambda: old.report_learned({0: 40}),
        lambda: old.trim({0: 40}),
        lambda: store.write_norms(3, {0: {"u": 1.0}}, {"i": 1.0}, 2, number),
        lambda: store.write_norms(3, {0: {"u": 1.0}}, {}, 2, number),
    ):
        with pytest.raises(LostOwnershipError, match=prefix):
            attempt()
    assert (samples.learned(), samples.waiting()) == (20, 2)
    assert store.read_user(0, "u").norm == 0
    weights = WeightStore(client, prefix)
    epoch = weights.open_epoch()
    base = weights.put("a", [b"blob"])
    weights.open_epoch()
    manifest = Manifest(version=1, epoch=epoch, created_ms=0, base=base, base_version=1)
    assert not weights.publish(manifest)
    assert 0 < client.ttl(store.keys.blob(base.name)) <= 3600, "a blob that no manifest names does not stay"
    assert weights.publish(msgspec.structs.replace(manifest, epoch=epoch + 1))
    assert client.ttl(store.keys.blob(base.name)) == -1


def test_a_full_redis_takes_reports_and_owners(settings: Settings, client: redis.Redis, samples: Samples) -> None:
    samples.put(40)
    outbox, weights = Outbox(client, settings.redis.prefix, 2), WeightStore(client, settings.redis.prefix)
    lease = Lease(client, settings.redis.prefix, "a")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("x", 1)
        assert lease.take(former_is_dead=True) is None
        assert (outbox.own(5), weights.open_epoch()) == (5, 1)
        outbox.report_learned({0: 40})
        outbox.trim({0: 40})
    finally:
        client.config_set("maxmemory", 0)
        lease.release()
    assert (samples.learned(), samples.waiting()) == (40, 0)


def test_a_lease_is_one_folder_s_until_it_is_given_back_or_runs_out(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    prefix = settings.redis.prefix
    one, other = Lease(client, prefix, folder_id(tmp_path)), Lease(client, prefix, "b")
    again = Lease(client, prefix, folder_id(tmp_path))
    assert one.take(former_is_dead=True) is None
    held = other.take(former_is_dead=True)
    assert isinstance(held, Owner)
    assert held.pid == os.getpid()
    # Whether the former one of the same folder is dead is for the folder's lock to say.
    assert again.take(former_is_dead=False) is not None
    assert again.take(former_is_dead=True) is None
    one.release()
    assert read_owner(client, prefix) is not None, "it was another's by then"
    again.release()
    assert other.take(former_is_dead=True) is None
    client.delete(f"{prefix}:learner:owner")
    wait_until(lambda: read_owner(client, prefix) is not None, "a lease that Redis forgot to be taken again")
    other.release()
    assert read_owner(client, prefix) is None


def test_a_lock_is_one_process_s_and_goes_with_it(tmp_path: Path) -> None:
    lock, other = FolderLock(tmp_path / "run"), FolderLock(tmp_path / "run")
    assert lock.take() is None
    holder = other.take()
    assert holder is not None
    assert holder.pid == os.getpid()
    lock.release()
    assert other.take() is None
    other.release()


def test_a_filesystem_without_locks_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    lock = FolderLock(tmp_path)
    assert lock.take() is None
    assert not lock.is_sure
    lock.release()


def test_a_run_folder_that_is_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunFolderError, match=str(file)):
        FolderLock(file).take()
