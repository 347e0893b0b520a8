"""A disk that is full or read-only: nothing half-made stays, nothing is lost, and it goes on when there is room."""

import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import redis
from support.columns import columns
from support.samples import Samples, make_samples

from learner.checkpoints.folder import read_latest, sweep, write_checkpoint
from learner.files import write_whole
from learner.parts import weight_names
from stream.command.roles import Role, wait_until
from stream.monitor.figures.bucket import COUNT, Bucket
from stream.monitor.figures.cohorts import CohortScheme
from stream.monitor.figures.meter import Meter
from stream.monitor.history.recorder import Recorder, read_buckets
from stream.predictions.columns import log_columns
from stream.predictions.log import PredictionLog, read_predictions
from stream.settings import Settings

SIZE_MIB = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of a few MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    yield folder
    # A test may have laid another one over it.
    while folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 4096)
        except OSError:
            pass
    yield
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    remount = ["mount", "-o", "remount,{}", str(disk)]
    # Files that are open for writing forbid it; the lock is one. So a read-only bind mount lies over it.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run([part.format("bind,ro") for part in remount], check=True)
    yield
    subprocess.run([part.format("bind,rw") for part in remount], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "said"), [(filled, "No space left"), (read_only, "Read-only file system")])
def test_a_learner_goes_on_through_a_disk_that_takes_nothing(
    trouble, said: str, settings: Settings, client: redis.Redis, small_disk: Path
) -> None:
    samples, folder = Samples(client, settings), small_disk / "run"
    samples.put(400)
    role = OutsideLog("learner", settings, folder).start()
    wait_until(lambda: samples.waiting() == 0, "a checkpoint", [role])
    with trouble(small_disk):
        samples.put(400)
        wait_until(lambda: any(c.step == "checkpoint" for c in samples.status().waits), "it to notice", [role])
        [condition] = [c for c in samples.status().waits if c.step == "checkpoint"]
        assert said in condition.said
        assert str(folder) in condition.said
        wait_until(lambda: samples.status().num_trained == 800, "it to learn all the same", [role])
        time.sleep(2)
        role.check()
        assert samples.waiting() == 20, "nothing is trimmed"
        assert list(folder.rglob("*.part")) == []
        assert read_latest(folder / "checkpoints") is not None
        version = samples.version()
        wait_until(lambda: samples.version() > version, "weights to be published", [role])
    wait_until(lambda: samples.waiting() == 0, "a checkpoint", [role])
    wait_until(lambda: not samples.status().waits, "nothing more to wait for", [role])
    samples.put(100)
    wait_until(lambda: samples.learned() == 900, "the rest", [role])
    role.stop()
    assert role.status == 0
    assert "Traceback" not in role.log.read_text()
    samples.check_log(folder)


class OutsideLog(Role):
    """A role whose log lies outside the full disk."""

    @property
    def log(self) -> Path:
        return self._folder.parents[1] / f"{self.name}.log"


@pytest.mark.slow
def test_a_learner_that_is_killed_or_stopped_on_a_full_disk_loses_nothing(
    settings: Settings, client: redis.Redis, small_disk: Path
) -> None:
    samples, folder = Samples(client, settings), small_disk / "run"
    samples.put(200)
    role = OutsideLog("learner", settings, folder).start()
    for end in ("kill", "stop"):
        wait_until(lambda: samples.waiting() == 0, "a checkpoint", [role])
        with filled(small_disk):
            samples.put(200)
            expected = samples.num
            wait_until(lambda: samples.status().num_trained == expected, "it to learn", [role])  # noqa: B023
            wait_until(lambda: bool(samples.status().waits), "it to notice", [role])
            began = time.monotonic()
            role.kill() if end == "kill" else role.stop()
            assert time.monotonic() - began < 10
        role.start()
    wait_until(lambda: samples.waiting() == 0 and samples.learned() == samples.num, "all of it", [role])
    role.stop()
    assert "restored" not in role.log.read_text()
    assert samples.status().num_missed == 0
    samples.check_log(folder)


# Each writer --------------------------------------------------------------------------------------------------------


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond: the disk's refusal, without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, [b"old"])
    with files_up_to(100), pytest.raises(OSError, match="large"):
        write_whole(file, [b"a" * 50, b"b" * 200])
    assert (names(tmp_path), file.read_bytes()) == (["file"], b"old")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_checkpoint(tmp_path, number, {"w": np.full(100, float(number))}, {"number": number})
    held = names(tmp_path)
    with files_up_to(300), pytest.raises(OSError, match="large"):
        write_checkpoint(tmp_path, 4, {"w": np.zeros(100)}, {"number": 4})
    assert names(tmp_path) == held
    with files_up_to(1000), pytest.raises(OSError, match="large"):
        write_checkpoint(tmp_path, 4, {"w": np.zeros(100)}, {"number": 4, "long": "a" * 1000})
    found = read_latest(tmp_path)
    assert found is not None
    assert (found.meta["number"], float(found.arrays["w"][0])) == (3, 3.0)
    # What a kill, or a manifest that was refused, has left does not stay either.
    (tmp_path / "000000000004.segment.part").write_bytes(b"half")
    sweep(tmp_path)
    assert names(tmp_path) == held


def test_predictions_are_written_once_though_their_checkpoint_came_again(settings: Settings, tmp_path: Path) -> None:
    def logged(first: int) -> None:
        samples = columns(make_samples(10, seed=1, first=first), settings.fields)
        places, nothing = (np.zeros(10, np.int64), np.arange(first, first + 10) + 1), np.zeros(10, np.float32)
        log.append(log_columns(samples, places, nothing, nothing, nothing, 0))

    log = PredictionLog(tmp_path / "predictions", keep=9)
    logged(0)
    with files_up_to(100), pytest.raises(OSError, match="large"):
        log.flush(1)
    assert names(tmp_path / "predictions") == []
    logged(10)
    log.flush(1)
    # The checkpoint itself is refused now, and comes again with more.
    logged(20)
    assert len(log.learned_behind(0, 0)) == 30
    log.flush(1)
    log.durable()
    logged(30)
    log.flush(2)
    log.durable()
    rows = read_predictions(tmp_path / "predictions")
    assert rows["sequence"].to_list() == list(range(1, 41))


def test_buckets_are_written_once_though_their_checkpoint_came_again(settings: Settings, tmp_path: Path) -> None:
    num_weights = len(weight_names(settings.recipe))
    meter = Meter(settings.monitor, len(settings.fields), num_weights)
    recorder = Recorder(meter, tmp_path, keep=9, number=0)

    def observed(count: int) -> None:
        bucket = Bucket(len(CohortScheme(settings.monitor)), len(settings.fields), 50, 6, num_weights)
        bucket.sums_CM[0, COUNT] = count
        meter._stretches._ended = [bucket]

    observed(1)
    with files_up_to(100), pytest.raises(OSError, match="large"):
        recorder.cut(1, 1)
    observed(2)
    recorder.cut(1, 2)
    observed(4)
    recorder.cut(1, 3)
    recorder.durable(1)
    observed(8)
    recorder.cut(2, 4)
    recorder.durable(2)
    assert [float(b.sums_CM[0, COUNT]) for b in read_buckets(tmp_path)] == [1.0, 2.0, 4.0, 8.0]
