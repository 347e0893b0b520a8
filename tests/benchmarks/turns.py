"""Pipelines that work off the same log in turns: what one of them costs beside another.

Each has servers and roles of its own, and while one works, every process of the others is stopped. So both see the same
machine from second to second, and how fast it happens to be cancels; and both do the same work, so what is compared is
the time that it took, however unevenly worker and learner go about it.
"""

import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
import scipy.stats

from simulators.demo import in_flight
from simulators.movielens import MovieLens
from simulators.producer import PaceSettings, ReplayProducer
from simulators.replay import Plan, iter_whole_log
from state_store.client import connect
from state_store.errors import OperatorError
from state_store.outbox import Outbox
from state_store.states import StateStore
from stream.learner_role import read_status
from stream.roles import Role, servers, wait_until
from stream.settings import Settings

_TURN_S = 1.0
_FROM, _TO = 0.2, 0.95
"""The part of the work that is timed: neither the start, while the worker runs ahead, nor the end, where roles wait."""
_STALLED_AFTER_S = 60.0


class Arm:
    """A pipeline that works in its turns only.

    Args:
        settings: of the pipeline, with URLs.
        num_events: length of its log.
        roles: must not end.
        processes: all of its processes, servers included, by name.
    """

    def __init__(
        self, settings: Settings, num_events: int, roles: Sequence[Role], processes: Mapping[str, psutil.Process]
    ) -> None:
        client = connect(settings.redis)
        self._store = StateStore(client, settings.redis, settings.join, settings.actions, settings.topics)
        self._outbox = Outbox(client, settings.redis.prefix, settings.kafka.partitions)
        self._num_events = num_events
        self._roles = roles
        self._processes = processes
        self._seconds = 0.0
        self._moved_s = 0.0
        self.is_awake = True
        self._readings: list[tuple[float, ...]] = []
        """After each turn: share of the work that is done, seconds of its turns, CPU time of each process."""

    @property
    def done(self) -> float:
        """Share of the work that is done: events to apply and samples to learn count alike."""
        return self._readings[-1][0] if self._readings else 0.0

    def pause(self) -> None:
        """Stop every process."""
        self.is_awake = False
        for process in self._processes.values():
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
        self.is_awake = True

    def turn(self) -> None:
        """Work for a while.

        Raises:
            OperatorError: a role has ended.
            TimeoutError: nothing has moved for too long.
        """
        began, before = time.perf_counter(), self.done
        self.resume()
        time.sleep(_TURN_S)
        done = 1 - in_flight(self._num_events, self._store, self._outbox) / self._num_events
        self.pause()
        self._seconds += time.perf_counter() - began
        times = [process.cpu_times() for process in self._processes.values()]
        self._readings.append((done, self._seconds, *(t.user + t.system for t in times)))
        if done > before:
            self._moved_s = self._seconds
        for role in self._roles:
            role.check()
        if self._seconds - self._moved_s > _STALLED_AFTER_S:
            raise TimeoutError(f"nothing has moved for {_STALLED_AFTER_S:.0f} s, {done:.1%} of the log are done")

    def taken(self) -> dict[str, float]:
        """What the timed part of the work took: `seconds`, and by process, seconds of CPU time.

        Raises:
            OperatorError: the log is so short that the part had begun before anything was read off.
        """
        done, *columns = np.array(self._readings).T
        if done[0] > _FROM:
            raise OperatorError(f"{self._num_events} events are too few: {done[0]:.0%} were done in the first turn")
        took = [float(np.diff(np.interp([_FROM, _TO], done, column))[0]) for column in columns]
        return dict(zip(["seconds", *self._processes], took, strict=True))


@contextmanager
def paused_pipeline(settings: Settings, data: MovieLens, plan: Plan, folder: Path) -> Iterator[Arm]:
    """A pipeline on a complete log, paused; with a monitor if one is enabled."""
    others = set(psutil.Process().children(recursive=True))
    with servers(stretched(settings)) as live, ExitStack() as stack:
        producer = ReplayProducer(live.kafka, PaceSettings())
        producer.write(iter_whole_log(data, plan, live.kafka.partitions, live.join))
        producer.close()
        # The worker last: it would be far ahead of a learner that still starts.
        roles = [stack.enter_context(Role("learner", live, folder))]
        wait_until(lambda: num_trained(live) >= 0, "the learner to start", roles)
        if live.monitor.enabled:
            roles.append(stack.enter_context(Role("monitor", live, folder)))
            wait_until(lambda: "http://" in roles[1].log.read_text(), "the monitor to start", roles)
        roles.append(stack.enter_context(Role("worker", live, folder)))
        wait_until(lambda: num_trained(live) > 0, "the worker to begin", roles)
        names = {role.pid: role.name for role in roles}
        started = [p for p in psutil.Process().children(recursive=True) if p not in others]
        processes = {names.get(p.pid, p.name()): p for p in started}
        made = Arm(live, producer.num_sent, roles, processes)
        try:
            made.pause()
            yield made
        finally:
            # A stopped process would not hear that it shall end.
            made.resume()


def stretched(settings: Settings) -> Settings:
    """Timers that go off as often per second of a pipeline's turns as they would if it had all the time."""
    replace = msgspec.structs.replace
    publish, worker, monitor = settings.publish, settings.worker, settings.monitor
    return replace(
        settings,
        publish=replace(publish, interval_s=2 * publish.interval_s, checkpoint_s=2 * publish.checkpoint_s),
        worker=replace(worker, roll_up_s=2 * worker.roll_up_s),
        monitor=replace(monitor, bucket_s=2 * monitor.bucket_s),
    )


def num_trained(settings: Settings) -> int:
    """Samples learned; -1 before the learner has reported."""
    with connect(settings.redis) as client:
        status = read_status(client, settings.redis.prefix)
    return status.num_trained if status else -1


def alternate(arms: Sequence[Arm]) -> None:
    """Turn by turn, until the timed part of the work is done by all."""
    while any(arm.done < _TO for arm in arms):
        for arm in arms:
            arm.turn()


def with_interval(shares: Sequence[float]) -> dict[str, float | None]:
    """The mean, and the half width of its 95 % interval by Student's t; None for one value."""
    half = None
    if len(shares) > 1:
        error = statistics.stdev(shares) / len(shares) ** 0.5
        half = round(float(scipy.stats.t.ppf(0.975, len(shares) - 1)) * error, 4)
    return {"mean": round(statistics.mean(shares), 4), "plus_minus": half}
