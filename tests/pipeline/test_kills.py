"""A learner that dies while it writes a checkpoint, or merges segments, has learned each sample once in the end."""

import signal
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from learner.checkpoints.folder import read_latest
from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.settings import Settings

pytestmark = pytest.mark.slow

_SAMPLES = 50


@pytest.mark.parametrize(
    "point",
    [
        "checkpoint.before_manifest:3",
        "merge.half_written:1",
        pytest.param("merge.written:2", marks=pytest.mark.soak),
    ],
)
def test_it_goes_on_from_the_last_complete_one(
    point: str, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    # By number of samples alone, until it has died.
    publish = msgspec.structs.replace(settings.publish, checkpoint_s=600.0, checkpoint_samples=_SAMPLES)
    by_number = msgspec.structs.replace(settings, publish=publish)
    samples = Samples(client, by_number)
    learner = Role("learner", by_number, tmp_path).start({FAILPOINT: point})
    while learner.is_running:
        assert samples.num < 40 * _SAMPLES, f"{point} was not passed"
        samples.put(_SAMPLES)
        wait_until(lambda: samples.waiting() == 0 or not learner.is_running, "a checkpoint, or the end")
    assert learner.status == -signal.SIGKILL
    held = read_latest(tmp_path / "checkpoints")
    assert held is not None
    known = held.meta["learner"]["num_samples"]
    assert 0 < known < samples.num or point.startswith("merge")
    with Role("learner", settings, tmp_path) as again:
        samples.put(_SAMPLES)
        wait_until(lambda: samples.learned() == samples.num and samples.waiting() == 0, "all of it", [again])
        wait_until(lambda: samples.status().checkpoint_bytes > 0, "it to say what that wrote", [again])
    assert f"{known} samples" in again.log.read_text()
    assert list(tmp_path.rglob("*.part")) == []
    samples.check_log(tmp_path)
