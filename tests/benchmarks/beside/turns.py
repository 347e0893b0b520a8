"""Pipelines that work off the same log in turns: what one of them costs beside another.

Each has Redis and roles of its own, and while one works, every process of the others is stopped. So both see the same
machine from moment to moment, and how fast it happens to be cancels; and both do the same work, so what is compared is
the time that it took. The log is on one broker, which serves whoever is awake: writing it takes as long as working it
off.

Timed is everything from the worker's first records to nearly the learner's last sample. A part of it would not be the
same work twice: the worker goes ahead by fits and starts, whenever a checkpoint has made room for it.
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

from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay
from state_store.client import connect
from state_store.outbox import Outbox
from stream.command.roles import Role, servers, wait_until
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics
from stream.process.status import read_status
from stream.sections import MonitorSettings
from stream.settings import Settings

_TURN_S = 0.25
_TO = 0.97
"""Samples learned when the clock stops, as a share of the impressions: the last ones may wait for a timer."""
_STALLED_AFTER_S = 60.0


class WrittenLog(msgspec.Struct, frozen=True):
    """A complete log on a broker."""

    settings: Settings
    """Settings with the broker's address."""
    num_impressions: int
    broker: psutil.Process


def write_whole_log(settings: Settings, replay: Replay) -> int:
    """Write a whole replay as fast as the broker takes it; returns the number of events."""
    producer = ReplayProducer(settings.kafka, PaceSettings())
    producer.write(replay.whole_log())
    producer.close()
    return producer.num_sent


@contextmanager
def written_log(settings: Settings, replay: Replay) -> Iterator[WrittenLog]:
    """A broker that holds a whole replay."""
    with EmbeddedBroker() as broker:
        settings = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, url=broker.url))
        ensure_topics(settings.kafka)
        write_whole_log(settings, replay)
        yield WrittenLog(settings, replay.num_rows, psutil.Process(broker.pid))


class Arm:
    """A pipeline that works in its turns only.

    Args:
        settings: of the pipeline, with URLs.
        log: what it works off.
        worker: not started yet.
        roles: the others; none of them must end.
        processes: theirs and Redis', by name.
    """

    def __init__(
        self,
        settings: Settings,
        log: WrittenLog,
        worker: Role,
        roles: Sequence[Role],
        processes: Mapping[str, psutil.Process],
    ) -> None:
        self._client = connect(settings.redis)
        self._prefix = settings.redis.prefix
        self._outbox = Outbox(self._client, settings.redis.prefix, settings.kafka.partitions)
        self._stop_at = _TO * log.num_impressions
        self._broker = log.broker
        self._broker_s = 0.0
        self._worker = worker
        self.roles = [*roles, worker]
        self._processes = dict(processes)
        self.is_awake = True
        self._seconds = 0.0
        self._learned: list[tuple[int, float]] = [(0, 0.0)]
        """Samples learned, and after how many seconds of its turns."""
        self._spent: list[tuple[float, ...]] = []
        """From the beginning, and after each turn: seconds of all turns, CPU time of the broker in them and of each
        process."""

    def start_worker(self) -> None:
        """Let there be something to learn from."""
        self._worker.start()
        self._processes["worker"] = psutil.Process(self._worker.pid)

    def has_begun(self) -> bool:
        """Whether there is something to learn from; if so, the pipeline is paused, and the clock at 0."""
        if self.is_awake and any(self._outbox.sequences().values()):
            self.pause()
            self._note_spent()
        return not self.is_awake

    @property
    def is_done(self) -> bool:
        """Whether the timed part of the work is done."""
        return self._learned[-1][0] >= self._stop_at

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
        began, since_ms, broker_s = time.perf_counter(), time.time() * 1000, cpu_s(self._broker)
        self.resume()
        time.sleep(_TURN_S)
        status = read_status(self._client, self._prefix)
        self.pause()
        if status is not None and status.time_ms >= since_ms and status.num_trained > self._learned[-1][0]:
            self._learned.append((status.num_trained, self._seconds + (status.time_ms - since_ms) / 1000))
        self._seconds += time.perf_counter() - began
        self._broker_s += cpu_s(self._broker) - broker_s
        self._note_spent()
        for role in self.roles:
            role.check()
        num_learned, at = self._learned[-1]
        if self._seconds - at > _STALLED_AFTER_S:
            raise TimeoutError(f"nothing has been learned for {_STALLED_AFTER_S:.0f} s; so far: {num_learned} samples")

    def _note_spent(self) -> None:
        self._spent.append((self._seconds, self._broker_s, *map(cpu_s, self._processes.values())))

    def taken(self) -> dict[str, float]:
        """What the timed part of the work took: `seconds`, and by process, seconds of CPU time."""
        num_learned, at = np.array(self._learned).T
        ended = float(np.interp(self._stop_at, num_learned, at))
        seconds, *columns = np.array(self._spent).T
        took = [float(np.interp(ended, seconds, column) - column[0]) for column in columns]
        return {"seconds": ended, **dict(zip(["broker", *self._processes], took, strict=True))}


def cpu_s(process: psutil.Process) -> float:
    """CPU time of a process so far, seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def waiting_pipeline(log: WrittenLog, monitor: MonitorSettings, folder: Path) -> Iterator[Arm]:
    """A pipeline at the beginning of a log, its worker not started; with a monitor if it is enabled."""
    others = set(psutil.Process().children(recursive=True))
    # A group and a Redis of its own: it reads the whole log, whoever has read it before.
    kafka = msgspec.structs.replace(log.settings.kafka, group=f"{folder.parent.name}-{folder.name}")
    settings = stretched(msgspec.structs.replace(log.settings, kafka=kafka, monitor=monitor))
    with servers(settings) as live, ExitStack() as stack:
        roles = [stack.enter_context(Role("learner", live, folder))]
        client = connect(live.redis)
        wait_until(lambda: read_status(client, live.redis.prefix) is not None, "the learner to start", roles)
        if live.monitor.enabled:
            roles.append(stack.enter_context(Role("monitor", live, folder)))
            wait_until(lambda: "http://" in roles[1].log.read_text(), "the monitor to start", roles)
        names = {role.pid: role.name for role in roles}
        started = [p for p in psutil.Process().children(recursive=True) if p not in others]
        worker = Role("worker", live, folder)
        stack.callback(worker.stop)
        made = Arm(live, log, worker, roles, {names.get(p.pid, p.name()): p for p in started})
        try:
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


def alternate(arms: Sequence[Arm]) -> None:
    """Turn by turn, until the timed part of the work is done by all."""
    # All at once: a worker that is stopped for longer than its session with the broker lasts has to join anew.
    for arm in arms:
        arm.start_worker()
    roles = [role for arm in arms for role in arm.roles]
    # Each is asked every time, and paused as soon as it has begun, whatever the other does.
    wait_until(lambda: min([arm.has_begun() for arm in arms]), "the workers to begin", roles)
    while not all(arm.is_done for arm in arms):
        for arm in arms:
            arm.turn()


def with_interval(shares: Sequence[float]) -> dict[str, float | None]:
    """The mean, and the half width of its 95 % interval by Student's t; None for one value."""
    half = None
    if len(shares) > 1:
        error = statistics.stdev(shares) / len(shares) ** 0.5
        half = round(float(scipy.stats.t.ppf(0.975, len(shares) - 1)) * error, 4)
    return {"mean": round(statistics.mean(shares), 4), "plus_minus": half}
