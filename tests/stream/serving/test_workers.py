"""Several scorers on one port: what any of them answers, and what becomes of the answers when one dies."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support.serving import CONTEXT, ITEM, Http, Trained, asked_for, with_serving

from learner.snapshot import encode_snapshot
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from state_store.weights import WeightStore
from stream.command.roles import Role
from stream.process.port import PortTakenError, hold_port
from stream.sections import ServingSettings
from stream.serving.address import serving_url
from stream.serving.peers import Peers
from stream.serving.scorer import Candidate, Scorer
from stream.settings import load_settings

WORKERS = 2
ITEMS = [f"i{n}" for n in range(8)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis that remembers, killed or not."""
    folder = Path(tmp_path_factory.mktemp("redis"))
    with EmbeddedRedis(folder, ("--appendonly", "yes", "--appendfsync", "always")) as server:
        yield server


@pytest.fixture(scope="module")
def trained(server: EmbeddedRedis) -> Trained:
    given = {"redis.url": server.url}
    settings = load_settings(environment={}, overrides=["redis.prefix=several", "kafka.partitions=2"], given=given)
    made = Trained(with_serving(settings, workers=WORKERS), connect(settings.redis))
    made.publish(400, 1, now_ms=time.time_ns() // 1_000_000)
    return made


@pytest.fixture(scope="module")
def role(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    with Role("serve", trained.settings, Path(tmp_path_factory.mktemp("serve"))) as role:
        yield role


@pytest.fixture(scope="module")
def http(trained: Trained, role: Role) -> Http:
    http = Http(serving_url(trained.settings.serving))
    http.wait()
    return http


def processes(role: Role) -> tuple[psutil.Process, list[psutil.Process]]:
    """The loader, and those that answer, once all are there."""
    deadline = time.monotonic() + 30
    while True:
        children = psutil.Process(role.pid).children()
        answering = [child for child in children if _listens(child)]
        loading = [child for child in children if child not in answering]
        if len(answering) == WORKERS and len(loading) == 1:
            return loading[0], answering
        assert time.monotonic() < deadline, role.log.read_text()
        time.sleep(0.05)


def _listens(process: psutil.Process) -> bool:
    try:
        return any(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


class Asking:
    """Asks over and over, each time by a connection of its own; what a dying process cuts off it asks again."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._go_on) for _ in range(3)]
        self.statuses: list[int] = []
        self.num_cut = 0

    def _go_on(self) -> None:
        while not self._done.is_set():
            try:
                self.statuses.append(self._http.ask("/v1/score", asked_for(5))[0])
            except OSError:
                self.num_cut += 1

    def wait_for(self, more: int) -> None:
        """Until so many more have been answered."""
        enough, deadline = len(self.statuses) + more, time.monotonic() + 30
        while len(self.statuses) < enough:
            assert time.monotonic() < deadline, "nobody answers"
            time.sleep(0.01)

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        self.wait_for(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)


def wait_for_version(http: Http, version: int) -> None:
    deadline = time.monotonic() + 60
    while http.post("/v1/weights", None)["version"] < version:
        assert time.monotonic() < deadline, http.post("/v1/weights", None)
        time.sleep(0.05)


def known(http: Http, user: str, within_s: float) -> dict[str, Any]:
    """An answer from the state; each process finds a Redis that was away again by itself, when it is asked."""
    deadline = time.monotonic() + within_s
    while (answer := http.post("/v1/score", asked_for(len(ITEMS), user)))["degraded"]:
        assert time.monotonic() < deadline, answer
    return dict(answer)


def assert_says_what_the_learner_would(http: Http, trained: Trained, within_s: float = 0.0) -> None:
    """Of users whose state does not say when they came, so that the clock has no part in their scores."""
    scorer = Scorer(trained.settings, trained.store.client)
    turns, newest = scorer.versions._turns, WeightStore(trained.store.client, "several").latest()
    assert newest is not None
    turns.take().load(encode_snapshot(trained.learner, None), alone=True)
    turns.put_in_force(newest)
    for user in ("u1", "u2", "nobody"):
        answer = known(http, user, within_s)
        assert answer["version"] == newest.version
        expected = scorer.score(user, CONTEXT, [Candidate(item, ITEM) for item in ITEMS])
        got = np.array([scored["probability"] for scored in answer["scores"]], np.float32)
        np.testing.assert_array_equal(got, expected)


def test_a_scorer_that_is_killed_is_replaced_and_answers_keep_coming(http: Http, role: Role, trained: Trained) -> None:
    with Asking(http) as asking:
        for _ in range(2):
            _, answering = processes(role)
            answering[0].send_signal(signal.SIGKILL)
            asking.wait_for(30)
        assert len(processes(role)[1]) == WORKERS
        trained.publish(60, 2, now_ms=time.time_ns() // 1_000_000)
        wait_for_version(http, 2)
        trained.publish(60, 3, now_ms=time.time_ns() // 1_000_000)
        # The model that the dead ones may have been reading is loaded all the same.
        wait_for_version(http, 3)
    assert set(asking.statuses) == {200}
    assert_says_what_the_learner_would(http, trained)


def test_a_loader_that_is_killed_is_replaced_and_the_next_version_comes(
    http: Http, role: Role, trained: Trained
) -> None:
    before = http.post("/v1/weights", None)["version"]
    with Asking(http) as asking:
        for seed in (11, 12):
            loader, _ = processes(role)
            # Whatever it is in the middle of.
            trained.publish(400, seed, now_ms=time.time_ns() // 1_000_000, num_users=2000)
            loader.send_signal(signal.SIGKILL)
            asking.wait_for(30)
        wait_for_version(http, before + 2)
    assert set(asking.statuses) == {200}
    assert asking.num_cut == 0, "those that answer have no part in it"
    assert_says_what_the_learner_would(http, trained)


def test_without_redis_scores_come_from_the_weights_alone(http: Http, server: EmbeddedRedis, trained: Trained) -> None:
    with Asking(http) as asking:
        server.kill()
        deadline = time.monotonic() + 30
        while not http.post("/v1/score", asked_for(5))["degraded"]:
            assert time.monotonic() < deadline
        asking.wait_for(30)
        server.start()
        trained.publish(60, 21, now_ms=time.time_ns() // 1_000_000)
        newest = WeightStore(trained.store.client, "several").latest()
        assert newest is not None
        wait_for_version(http, newest.version)
    assert set(asking.statuses) == {200}
    assert_says_what_the_learner_would(http, trained, within_s=30)


def test_figures_are_sums_over_all_that_answer(http: Http) -> None:
    def asked() -> float:
        lines = http.ask("/metrics")[1].decode().splitlines()
        [line] = [line for line in lines if line.startswith('coldstream_serving_requests_total{route="/v1/explain"')]
        return float(line.split()[-1])

    ask = partial(http.post, "/v1/explain", {"user": "u1", "item": "i1", "context": CONTEXT})
    ask()
    before = asked()
    for n in range(1, 9):
        ask()
        assert asked() == before + n


def test_another_scorer_is_refused_the_port_from_the_first_moment_on(
    http: Http, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(PortTakenError, match=rf"serving\.port {trained.settings.serving.port}"):
        hold_port(trained.settings.serving)
    with hold_port(ServingSettings(port=0)) as held:
        settings = ServingSettings(port=held.getsockname()[1])
        # Before anybody listens there: whoever asks later is refused, and the processes of the first one are not.
        with pytest.raises(PortTakenError):
            hold_port(settings)
        for _ in range(2):
            sharing = socket.create_server(("127.0.0.1", settings.port), reuse_port=True)
            sharing.close()
    hold_port(settings).close()


def test_what_one_scorer_answered_another_may_be_told_was_shown(tmp_path: Path) -> None:
    shown: list[tuple[int, int, str, int | None]] = []

    def show(place: int, imp_ids: Sequence[str], ts: int | None) -> list[str]:
        own = [(n, imp_id) for n, imp_id in enumerate(imp_ids) if imp_id.startswith(f"of-{place}")]
        shown.extend((place, n, imp_id, ts) for n, imp_id in own)
        return [imp_id for imp_id in imp_ids if (place, imp_id) not in {(place, imp_id) for _, imp_id in own}]

    async def ask() -> list[list[str]]:
        peers = [Peers(tmp_path, place, 4, partial(show, place)) for place in range(3)]
        servers = [await one.listen() for one in peers]
        # The fourth has just died.
        (tmp_path / "3.sock").touch()
        asked = ["of-2-7", "nobody's", "of-0-1", "of-1-3", "of-2-1"]
        found = [await peers[1].show(asked, 5), await peers[0].show(["of-0-2"], None), await peers[2].show([], None)]
        for one in servers:
            one.close()
        return found

    assert asyncio.run(ask()) == [["nobody's"], [], []]
    assert sorted(shown) == [
        (0, 0, "of-0-2", None),
        (0, 2, "of-0-1", 5),
        (1, 3, "of-1-3", 5),
        (2, 0, "of-2-7", 5),
        (2, 4, "of-2-1", 5),
    ]


def test_they_end_when_asked_to_and_when_whoever_started_them_is_killed(
    http: Http, role: Role, trained: Trained
) -> None:
    loader, answering = processes(role)
    os.kill(role.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs([loader, *answering], timeout=20)
    assert not alive
    assert len(gone) == WORKERS + 1
    role.kill()
    # The port is free at once, for the next one.
    role.start()
    http.wait()
    assert_says_what_the_learner_would(http, trained)
    loader, answering = processes(role)
    role.stop()
    assert role.status == 0
    assert not any(child.is_running() for child in [loader, *answering])
