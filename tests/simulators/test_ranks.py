"""One process of a group of learners dies in the middle of what it does: each sample is learned once all the same."""

import random
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from simulators.runs.ranks import GroupDeaths
from stream.command.roles import Role, wait_until
from stream.settings import Settings

pytestmark = pytest.mark.slow


def test_a_death_in_the_middle_of_something_loses_and_doubles_nothing(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    learning = msgspec.structs.replace(settings.learner, processes=2, exchange_samples=64)
    publish = msgspec.structs.replace(settings.publish, checkpoint_s=0.3)
    settings = msgspec.structs.replace(settings, learner=learning, publish=publish)
    samples = Samples(client, settings)
    with Role("learner", settings, tmp_path) as learner:
        feed = lambda: samples.put(20)  # noqa: E731 - a part of the arrangement
        deaths = GroupDeaths(learner, tmp_path / "checkpoints", random.Random(1), feed, 1.0, 120.0)
        assert deaths.at("checkpoint.half_written", 1) == "learner: checkpoint.half_written"
        assert deaths.at("group.half_exchanged", 12) == "learner: group.half_exchanged"
        assert deaths.beside("checkpoint.half_written", 1) == "learner: rank 1 beside half a segment"
        samples.put(100)
        wait_until(
            lambda: samples.learned() == samples.num and samples.waiting() == 0,
            "all of it",
            [learner],
            stalled_after_s=180.0,
        )
    assert learner.status == 0
    samples.check_log(tmp_path)
