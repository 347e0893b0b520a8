"""The learner as several processes: one that is killed has all start anew, and nothing is learned twice or lost."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis
from support.samples import Samples

from simulators.runs.ranks import ranks_of
from stream.command.roles import Role, wait_until
from stream.settings import Settings
from stream.training.group.place import GroupError, place_in

pytestmark = pytest.mark.slow

_STALLED_S = 180.0
"""Several processes start, and may do so twice, on a machine that has other things to do."""


def wait(done: Callable[[], bool], what: str, roles: list[Role]) -> None:
    wait_until(done, what, roles, stalled_after_s=_STALLED_S)


def with_processes(settings: Settings, number: int) -> Settings:
    learner = msgspec.structs.replace(settings.learner, processes=number, exchange_samples=64)
    return msgspec.structs.replace(settings, learner=learner)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_one_has_the_group_start_anew(
    rank: int, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    settings = with_processes(settings, 2)
    samples = Samples(client, settings)
    with Role("learner", settings, tmp_path) as learner:
        samples.put(400)
        wait_until(
            lambda: samples.learned() > 0 and samples.version() > 0,
            "the first version",
            [learner],
            stalled_after_s=_STALLED_S,
        )
        before = ranks_of(learner)
        assert sorted(before) == [0, 1]
        samples.put(300)
        os.kill(before[rank], signal.SIGKILL)
        samples.put(300)
        wait_until(
            lambda: samples.learned() == samples.num and samples.waiting() == 0,
            "all of it",
            [learner],
            stalled_after_s=_STALLED_S,
        )
        after = ranks_of(learner)
        assert sorted(after) == [0, 1]
        assert set(after.values()) & set(before.values()) == set()
    assert learner.status == 0
    samples.check_log(tmp_path)
    with Role("learner", with_processes(settings, 1), tmp_path) as alone:
        samples.put(200)
        wait_until(
            lambda: samples.learned() == samples.num and samples.waiting() == 0,
            "the rest of it",
            [alone],
            stalled_after_s=_STALLED_S,
        )
    samples.check_log(tmp_path)
    assert "shared out anew" in alone.log.read_text()


def test_it_ends_when_asked_and_leaves_nothing_behind(settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    settings = with_processes(settings, 3)
    samples = Samples(client, settings)
    with Role("learner", settings, tmp_path) as learner:
        samples.put(200)
        wait(lambda: samples.learned() == samples.num, "all of it", [learner])
        pids = [*ranks_of(learner).values()]
    assert learner.status == 0
    assert len(pids) == 3
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    samples.check_log(tmp_path)


def test_what_the_environment_says_of_a_group_must_be_whole() -> None:
    with pytest.raises(GroupError, match="MASTER_PORT"):
        place_in({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"})
    with pytest.raises(GroupError, match="from 0 to below"):
        place_in({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"})
    here = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    with pytest.raises(GroupError, match="LOCAL_RANK is 'one': it must be"):
        place_in({**here, "LOCAL_RANK": "one"})
    places = place_in(here), place_in({**here, "LOCAL_RANK": "1"})
    assert [place and (place.rank, place.local_rank) for place in places] == [(3, 3), (3, 1)]
