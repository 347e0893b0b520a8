"""Weights that processes share: whoever dies, reader or loader, holds nobody up."""

import os
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import redis
from support.serving import Trained, some_samples

from learner.snapshot import ServingModel, encode_snapshot
from state_store.weights import WeightStore
from stream.serving.turns.shared import SharedTurns
from stream.serving.versions import Versions
from stream.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
LOADER = 2


@pytest.fixture
def trained(settings: Settings, client: redis.Redis) -> Trained:
    return Trained(settings, client)


@pytest.fixture
def turns(trained: Trained) -> SharedTurns:
    return SharedTurns(trained.settings.recipe, LOADER)


@pytest.fixture
def versions(trained: Trained, turns: SharedTurns, client: redis.Redis) -> Versions:
    return Versions(WeightStore(client, trained.settings.redis.prefix), trained.settings.recipe, turns)


def in_a_fork(run: Callable[[], object]) -> None:
    """Run something in a process that dies at its end, or before, without any tidying up."""
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(1)
    os.waitpid(pid, 0)


def says(versions: Versions, trained: Trained) -> tuple[int, np.ndarray]:
    with versions.reading() as current:
        assert current is not None
        assert current.manifest is not None
        scores = current.model.predict(some_samples(trained.settings, 50, seed=99))
        return current.manifest.version, scores.predictions_B


def learners_own(trained: Trained) -> np.ndarray:
    model = ServingModel(trained.settings.recipe)
    model.load(encode_snapshot(trained.learner, None))
    return model.predict(some_samples(trained.settings, 50, seed=99)).predictions_B


def test_a_reader_that_died_holds_loading_up_only_until_it_is_known_to_be_gone(
    trained: Trained, turns: SharedTurns, versions: Versions
) -> None:
    trained.publish(40, 1)
    versions.refresh()

    def read_and_die() -> None:
        turns.read_as(1)
        with versions.reading():
            os._exit(0)

    in_a_fork(read_and_die)
    trained.publish(40, 2)
    versions.refresh()
    trained.publish(40, 3)
    loading = threading.Thread(target=versions.refresh)
    loading.start()
    loading.join(0.3)
    assert loading.is_alive(), "as far as is known, it is still read"
    turns.is_gone(1)
    loading.join(20)
    assert not loading.is_alive()
    version, predictions = says(versions, trained)
    assert version == 3
    np.testing.assert_array_equal(predictions, learners_own(trained))


@pytest.mark.parametrize("dies_in", ["the middle", "the swap"])
def test_what_a_loader_left_that_died_is_loaded_by_the_next_one(
    dies_in: str, trained: Trained, turns: SharedTurns, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        trained.publish(40, seed)
        versions.refresh()
    before = says(versions, trained)
    trained.publish(400, 3, num_users=900)

    def load_and_die() -> None:
        if dies_in == "the middle":
            monkeypatch.setattr("stream.serving.versions._let_others_go_on", lambda: os._exit(0))
        else:
            monkeypatch.setattr(turns, "put_in_force", lambda _: os._exit(0))
        versions.refresh()

    in_a_fork(load_and_die)
    assert turns.other.manifest is None
    version, predictions = says(versions, trained)
    assert version == before[0]
    np.testing.assert_array_equal(predictions, before[1])
    turns.is_gone(LOADER)
    in_a_fork(versions.refresh)
    version, predictions = says(versions, trained)
    assert version == 3
    np.testing.assert_array_equal(predictions, learners_own(trained))


def test_readers_in_other_processes_see_one_version_each_while_weights_are_swapped(
    trained: Trained, turns: SharedTurns, versions: Versions
) -> None:
    """Each says what it saw by a pipe; a version's scores are those of the learner then."""
    trained.publish(40, 1)
    versions.refresh()
    says(versions, trained)
    reading, writing = os.pipe()
    pids = []
    for place in range(LOADER):
        pid = os.fork()
        if not pid:
            try:
                turns.read_as(place)
                while True:
                    version, predictions = says(versions, trained)
                    os.write(writing, version.to_bytes(8, "little") + predictions.tobytes())
            finally:
                os._exit(1)
        pids.append(pid)
    os.close(writing)
    seen: list[bytes] = []
    size = 8 + 4 * 50
    with os.fdopen(reading, "rb") as pipe:
        collecting = threading.Thread(target=lambda: seen.extend(iter(lambda: pipe.read(size), b"")))
        collecting.start()
        own = {1: learners_own(trained).tobytes()}
        for version in range(2, 10):
            trained.publish(25, version)
            own[version] = learners_own(trained).tobytes()
            versions.refresh()
            time.sleep(0.02)
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        collecting.join(20)
    versions_seen = [int.from_bytes(one[:8], "little") for one in seen]
    assert len(set(versions_seen)) > 3
    assert [n for n, one in zip(versions_seen, seen, strict=True) if one[8:] != own[n]] == []
