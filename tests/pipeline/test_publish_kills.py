"""A learner that dies while it writes weights: the newest version stays whole, and the next learner goes on."""

import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from support.samples import Samples
from support.serving import some_samples

from state_store.chunks.places import Places
from state_store.chunks.snapshots import Snapshots
from state_store.keys import Keys
from state_store.weights import WeightStore, blobs_of
from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.serving.versions import Versions
from stream.settings import Settings

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("point", "store"),
    [
        ("chunk.written:8", "file"),
        pytest.param("publish.before_removal:4", "file", marks=pytest.mark.soak),
        pytest.param("chunk.before_write:8", "redis", marks=pytest.mark.soak),
        pytest.param("publish.before_manifest:3", "redis", marks=pytest.mark.soak),
    ],
)
def test_the_newest_version_is_whole(
    point: str, store: str, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/weights" if store == "file" else store
    publish = msgspec.structs.replace(
        settings.publish, interval_s=0.1, full_every=2, keep_versions=1, keep_every_s=0, store=url, retired_s=1
    )
    settings = msgspec.structs.replace(settings, publish=publish)
    samples, weights = Samples(client, settings), WeightStore(client, settings.redis.prefix)
    learner = Role("learner", settings, tmp_path / "run").start({FAILPOINT: point})
    samples.put(50)
    wait_until(lambda: not learner.is_running, f"{point} to be passed")
    assert learner.status == -signal.SIGKILL
    versions = Versions(weights, settings.recipe)
    assert versions.refresh()
    before = versions.manifest
    assert before is not None
    with versions.reading() as held:
        assert held is not None
        assert np.isfinite(held.model.predict(some_samples(settings, 20, 1)).predictions_B).all()
    with Role("learner", settings, tmp_path / "run") as again:
        wait_until(lambda: weights.latest() != before, "a newer version", [again])
        newest = weights.latest()
        assert newest is not None
        assert newest.epoch == before.epoch + 1
        assert newest.version == before.version + 1
        assert versions.refresh()

        def is_swept() -> bool:
            now = weights.latest()
            assert now is not None
            places = Places(client, Keys(settings.redis.prefix))
            named = Snapshots(places).names(blobs_of([now, *weights.kept()]), url)
            # Of those that the one which died had written, only what is shared is left.
            left = {name for name in places.of(url).names() if name.startswith(f"{before.epoch}-")}
            return left <= named

        wait_until(is_swept, "what the first one left to be removed", [again])
