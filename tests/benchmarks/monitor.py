"""`coldstream bench monitor`: what monitoring costs, and how the page answers while events flow.

Three parts in one run. Learner alone: the same samples with and without cohort figures, in turns, in one process.
Pipeline: broker, worker, Redis and learner (on a core of its own) work off a log that is complete, with all monitoring
(cohort figures, the twin, the monitor's process, somebody who looks at the page) in every other window of four seconds
and none of it between: a machine that is faster now and slower then cannot pass for a difference; and the share of CPU
time that monitoring takes. Page: answers of the monitor while a producer writes at a given rate.
"""

import argparse
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import torch
from rich.console import Console

from learner.learner import Learner
from learner.sample import Sample, decode_samples
from simulators import movielens, synthetic
from simulators.backtest import Backtest, BacktestSettings
from simulators.demo import in_flight, run_demo
from simulators.movielens import MovieLens
from simulators.producer import PaceSettings, ReplayProducer
from simulators.replay import ReplaySettings, iter_whole_log, plan_replay
from state_store.child import free_port, spawn
from state_store.client import connect
from state_store.embedded import EmbeddedRedis
from state_store.errors import OperatorError
from state_store.outbox import Outbox
from state_store.states import StateStore
from stream.doctor import versions
from stream.learner_role import LearnerRole
from stream.monitor.meter import Meter
from stream.monitor.twin_feed import TwinFeed
from stream.prediction_log import PredictionLog, item_mean_baseline, log_rows
from stream.roles import Role, servers, wait_until
from stream.settings import Settings, load_settings
from stream.topics import ensure_topics, log_ids

_CHECKPOINT_S = 10.0
_TURN = 1280
"""Samples that one side learns before it is the other's turn."""
_WINDOW_S = 4.0
"""Short, as a shared machine's speed changes; and not in step with the checkpoints."""
_LOOK_S = 0.1
_NOW_MS = 4_102_444_800_000


# Learner alone ------------------------------------------------------------------------------------------------------


def samples_of(settings: Settings, data: MovieLens, num_ratings: int, folder: Path) -> list[Sample]:
    """Joined samples of a replay, without learning."""
    plan = plan_replay(data, ReplaySettings(num_ratings=num_ratings))
    backtest = Backtest(settings, BacktestSettings(), folder, _NOW_MS)
    backtest.ingest(iter_whole_log(data, plan, settings.kafka.partitions, settings.join))
    outbox = Outbox(connect(settings.redis), settings.redis.prefix, settings.kafka.partitions)
    entries = outbox.read({}, max_entries=1 << 20).entries
    return [sample for entry in entries for sample in decode_samples(entry.payload)]


class Side:
    """A learner and its prediction log, with or without cohort figures."""

    def __init__(self, settings: Settings, folder: Path, *, metered: bool) -> None:
        self._learner = Learner(settings.model, settings.learner, settings.fields, len(settings.actions.names))
        self._log = PredictionLog(folder, keep=1)
        feed = TwinFeed(connect(settings.redis), settings.redis.prefix, "bench", settings.monitor.twin_share)
        self._meter = Meter(settings.monitor, len(settings.fields), feed=feed) if metered else None
        self._feed = feed
        self._size = settings.learner.micro_batch
        self._checkpoint_at = _CHECKPOINT_S
        self.seconds = 0.0
        self.turns: list[float] = []
        """Seconds of each."""

    def learn(self, samples: list[Sample]) -> None:
        """As the trainer does; what belongs to a checkpoint is written as often as in a live run."""
        started = time.perf_counter()
        for at in range(0, len(samples), self._size):
            batch = samples[at : at + self._size]
            learned = self._learner.learn(batch)
            popularity_B = item_mean_baseline(learned.counts_BC[:, learned.counts_BC.shape[1] // 2 :])
            rows = log_rows([(0, 0, sample) for sample in batch], learned.predictions_B, popularity_B, 0)
            self._log.append(rows)
            if self._meter is not None:
                self._meter.observe(rows, batch, learned, 0, time.time_ns() // 1_000_000)
        if self.seconds + time.perf_counter() - started >= self._checkpoint_at:
            self._checkpoint_at += _CHECKPOINT_S
            self._checkpoint()
        self.turns.append(time.perf_counter() - started)
        self.seconds += self.turns[-1]

    def _checkpoint(self) -> None:
        self._log.flush(1)
        if self._meter is not None:
            for bucket in self._meter.cut(time.time_ns() // 1_000_000):
                bucket.encode()
            self._feed.write(1)
            self._feed.durable(1)


def learner_alone(settings: Settings, data: MovieLens, num_ratings: int, folder: Path) -> dict[str, Any]:
    """Both sides' samples per second, and what the difference is, turn by turn."""
    with EmbeddedRedis() as server:
        redis = msgspec.structs.replace(settings.redis, url=server.url)
        settings = msgspec.structs.replace(settings, redis=redis)
        samples = samples_of(settings, data, num_ratings, folder / "run")
        sides = [Side(settings, folder / str(n), metered=bool(n)) for n in range(2)]
        for turn, at in enumerate(range(0, len(samples), _TURN)):
            for side in sides if turn % 2 else sides[::-1]:
                side.learn(samples[at : at + _TURN])
    plain, metered = (side.seconds for side in sides)
    return {
        "samples": len(samples),
        "samples_per_second": round(len(samples) / plain),
        "samples_per_second_monitored": round(len(samples) / metered),
        "overhead_share": lost(*(np.array(side.turns) for side in sides)),
        "microseconds_per_sample": round((metered - plain) / len(samples) * 1e6, 2),
    }


# Pipeline -----------------------------------------------------------------------------------------------------------


class Viewer:
    """Somebody who has the page open: asks for what it asks for, as often, and looks a user up now and then."""

    def __init__(self, url: str, user: str) -> None:
        self._asks = {"api/health": 2.0, "api/view": 4.0, f"api/user?id={user}": 20.0}
        self._url = url
        self.only_if: Callable[[float], bool] = lambda _: True
        """Whether somebody looks at a moment; time counts only while they do."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seconds: dict[str, list[float]] = {path: [] for path in self._asks}
        self.cpu_s = 0.0

    def _look(self) -> None:
        due, looked_s = dict.fromkeys(self._asks, 0.0), 0.0
        while not self._stop.wait(_LOOK_S):
            if not self.only_if(time.time()):
                continue
            looked_s += _LOOK_S
            for path, every in self._asks.items():
                if looked_s >= due[path]:
                    due[path] = looked_s + every
                    self._ask(path)
            self.cpu_s = time.thread_time()

    def _ask(self, path: str) -> None:
        started = time.perf_counter()
        try:
            with urllib.request.urlopen(self._url + path, timeout=30) as answer:
                answer.read()
        except (urllib.error.URLError, ConnectionError):
            # The monitor is not up yet, or no longer; or nothing is known of the user.
            return
        self.seconds[path].append(time.perf_counter() - started)

    def __enter__(self) -> "Viewer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def latencies(self) -> dict[str, dict[str, float]]:
        """Milliseconds per question."""
        return {
            path.partition("?")[0]: {
                "answers": len(taken),
                "p50_ms": round(float(np.median(taken)) * 1000, 1),
                "max_ms": round(max(taken) * 1000, 1),
            }
            for path, taken in self.seconds.items()
            if taken
        }


@contextmanager
def watched(settings: Settings, user: str) -> Iterator[tuple[Settings, Viewer]]:
    """Settings whose monitor somebody looks at."""
    port = free_port()
    settings = msgspec.structs.replace(settings, monitor=msgspec.structs.replace(settings.monitor, port=port))
    with Viewer(f"http://127.0.0.1:{port}/", user) as viewer:
        yield settings, viewer


class Windows:
    """Stops the monitor's process in every other window, lets it go on in those between, and notes the CPU time.

    Args:
        monitor: the monitor's process.
        viewer: who looks at it.
    """

    def __init__(self, monitor: Role, viewer: Viewer) -> None:
        self._monitor = monitor
        self._viewer = viewer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._alternate)
        self.cpu_s: dict[int, tuple[float, float]] = {}
        """Window -> CPU time as of its beginning: of the pipeline with monitor and viewer, and of these two alone."""

    def _alternate(self) -> None:
        while not self._over.wait(_WINDOW_S - time.time() % _WINDOW_S):
            # A timer may go off a little early.
            window = round(time.time() / _WINDOW_S)
            os.kill(self._monitor.pid, signal.SIGCONT if monitored(window * _WINDOW_S) else signal.SIGSTOP)
            looked_at = self._viewer.cpu_s + cpu_seconds(psutil.Process(self._monitor.pid))
            whole = self._viewer.cpu_s + sum(map(cpu_seconds, psutil.Process().children(recursive=True)))
            self.cpu_s[window] = whole, looked_at
        os.kill(self._monitor.pid, signal.SIGCONT)

    def __enter__(self) -> "Windows":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def monitored(at: float) -> bool:
    """Whether a moment lies in a window with monitoring."""
    return int(at / _WINDOW_S) % 2 == 1


def learn_in_windows(config: Path, folder: Path) -> None:
    """The learner's process: cohort figures in every other window; writes down what it did in each."""
    role = LearnerRole(load_settings(config, environment={}), folder)
    trainer, step, monitoring = role.trainer, role.trainer.step, Monitoring(role)
    learned: defaultdict[int, int] = defaultdict(int)
    busy_s: defaultdict[int, float] = defaultdict(float)

    def step_in_window(*, partial: bool, now_ms: int = 0) -> int:
        now, began = time.time(), time.perf_counter()
        window = int(now / _WINDOW_S)
        monitoring.switch(on=monitored(now))
        size = step(partial=partial, now_ms=now_ms)
        if size:
            learned[window] += size
            busy_s[window] += time.perf_counter() - began
        return size

    trainer.step = step_in_window  # type: ignore[method-assign]
    role.run()
    for window, seconds in monitoring.written_s.items():
        busy_s[window] += seconds
    (folder / "windows.json").write_text(json.dumps([learned, busy_s, monitoring.cpu_s]))


class Monitoring:
    """What a learner does for the monitor: taken from it, given back, and timed.

    What waits to be written at the end of a monitored window is written in the next one.
    """

    def __init__(self, role: LearnerRole) -> None:
        self._role = role
        self._parts = role.trainer.meter, role._recorder, role._feed
        meter, recorder, feed = self._parts
        self.cpu_s: defaultdict[int, float] = defaultdict(float)
        """Window -> CPU time."""
        self.written_s: defaultdict[int, float] = defaultdict(float)
        """Window -> time that checkpoints took longer."""
        for part, names in ((meter, ("observe", "published")), (recorder, ("write",)), (feed, ("write", "durable"))):
            for name in names if part is not None else ():
                setattr(part, name, self._timed(getattr(part, name), in_step=part is meter))

    def _timed(self, call: Callable[..., None], *, in_step: bool) -> Callable[..., None]:
        def timed(*args: Any, **options: Any) -> None:
            window, began, cpu_began = int(time.time() / _WINDOW_S), time.perf_counter(), time.thread_time()
            call(*args, **options)
            self.cpu_s[window] += time.thread_time() - cpu_began
            if not in_step:
                self.written_s[window] += time.perf_counter() - began

        return timed

    def switch(self, *, on: bool) -> None:
        """Let the learner have them, or not."""
        role, (meter, recorder, feed) = self._role, self._parts
        role.trainer.meter = meter if on else None
        role._recorder = recorder if on else None
        role._feed = feed if on else None


class Run(msgspec.Struct, frozen=True):
    """What a run of the pipeline did, window by window."""

    learned: dict[int, int]
    """Samples."""
    busy_s: dict[int, float]
    """Time that the learner took for them: for the steps, and for what a checkpoint writes for the monitor."""
    metered_s: dict[int, float]
    """CPU time that the learner spent on monitoring."""
    cpu_s: dict[int, tuple[float, float]]
    """As of `Windows`."""


def pipeline(settings: Settings, data: MovieLens, num_ratings: int, repeats: int, folder: Path) -> list[Run]:
    """Broker, worker, Redis and learner work off a log that is complete, with and without monitoring in turns."""
    plan = plan_replay(data, ReplaySettings(num_ratings=num_ratings))
    with servers(settings) as live:
        producer = ReplayProducer(live.kafka, PaceSettings())
        producer.write(iter_whole_log(data, plan, live.kafka.partitions, live.join))
        producer.close()
        runs = []
        for n in range(repeats):
            runs.append(work_off(live, producer.num_sent, first_user(data), folder / str(n)))
            # The next one begins at the beginning.
            with connect(live.redis) as client:
                client.flushall()
        return runs


def work_off(settings: Settings, num_events: int, user: str, folder: Path) -> Run:
    """One run over a log of so many events, from its beginning."""
    with watched(settings, user) as (live, viewer), ExitStack() as stack:
        viewer.only_if = monitored
        folder.mkdir(parents=True)
        config = folder / "settings.json"
        config.write_bytes(msgspec.json.encode(live))
        client = stack.enter_context(connect(live.redis))
        store = StateStore(client, live.redis, live.join, live.actions, live.topics)
        store.open_log(log_ids(ensure_topics(live.kafka), live), live.kafka.partitions)
        outbox = Outbox(client, live.redis.prefix, live.kafka.partitions)
        monitor = stack.enter_context(Role("monitor", live, folder))
        wait_until(lambda: "http://" in monitor.log.read_text(), "the monitor to start", [monitor])
        worker = stack.enter_context(Role("worker", live, folder))
        log = stack.enter_context((folder / "learner.log").open("wb"))
        environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        learner = spawn([sys.executable, __file__, "--learner", str(config), str(folder)], log, environment)
        pin(learner.pid)
        with Windows(monitor, viewer) as windows:
            while in_flight(num_events, store, outbox):
                worker.check()
                monitor.check()
                if learner.poll() is not None:
                    raise OperatorError(f"the learner ended; its log:\n{(folder / 'learner.log').read_text()}")
                # Seldom: these questions, too, are work for Redis.
                time.sleep(1)
        learner.terminate()
        learner.wait(60)
    found = (folder / "windows.json").read_bytes()
    of_learner = msgspec.json.decode(
        found, type=tuple[dict[int, int], dict[int, float], dict[int, float]], strict=False
    )
    return Run(*of_learner, windows.cpu_s)


def pin(learner_pid: int) -> None:
    """Give the learner a core of its own, and everything else the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        process.cpu_affinity([first] if process.pid == learner_pid else others or [first])


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Each monitored window beside the one before it; a run's first and last windows do not count."""
    pairs = [
        (run, w)
        for run in runs
        for w in sorted(run.learned)[2:-2]
        if monitored(w * _WINDOW_S) and w - 1 in run.learned and w + 1 in run.cpu_s
    ]
    if len(pairs) < 2:
        raise OperatorError(f"--long: done within too few windows of {_WINDOW_S:g} s to compare; give more")
    bare = np.array([run.learned[w - 1] for run, w in pairs])
    with_monitor = np.array([run.learned[w] for run, w in pairs])
    bare_s = np.array([run.busy_s[w - 1] for run, w in pairs])
    with_monitor_s = np.array([run.busy_s[w] for run, w in pairs])
    cpu_s, looked_at_s = np.sum([np.subtract(run.cpu_s[w + 1], run.cpu_s[w]) for run, w in pairs], axis=0)
    metered_s = sum(run.metered_s.get(w, 0.0) for run, w in pairs)
    return {
        "pairs_of_windows": len(pairs),
        "samples_per_second": round(bare.mean() / _WINDOW_S),
        "samples_per_second_monitored": round(with_monitor.mean() / _WINDOW_S),
        "overhead_share": lost(with_monitor / _WINDOW_S, bare / _WINDOW_S),
        "samples_per_busy_second": round(bare.sum() / bare_s.sum()),
        "samples_per_busy_second_monitored": round(with_monitor.sum() / with_monitor_s.sum()),
        "overhead_share_busy": lost(with_monitor, bare, with_monitor_s, bare_s),
        "share_of_cpu_time": {
            "learner": round(float(metered_s) / cpu_s, 4),
            "monitor_and_viewer": round(looked_at_s / cpu_s, 4),
            "both": round((metered_s + looked_at_s) / cpu_s, 4),
        },
    }


def lost(
    less: np.ndarray, more: np.ndarray, less_s: np.ndarray | float = 1.0, more_s: np.ndarray | float = 1.0
) -> dict[str, float]:
    """By how much the rate sum(less) / sum(less_s) lies below sum(more) / sum(more_s), as a share of the latter.

    With the half width of its 95 % interval, by the jackknife over pairs.
    """
    ones = np.ones(len(less))
    sums = [(x * ones).sum() - np.append(0.0, x * ones) for x in (less, less_s, more, more_s)]
    shares = 1 - (sums[0] / sums[1]) / (sums[2] / sums[3])
    error = (len(less) - 1) / math.sqrt(len(less)) * statistics.stdev(shares[1:])
    return {"mean": round(float(shares[0]), 4), "plus_minus": round(1.96 * error, 4)}


def page(
    settings: Settings, data: MovieLens, num_ratings: int, rate: float, folder: Path, console: Console
) -> dict[str, Any]:
    """How the monitor answers while a producer writes `rate` events/s."""
    with watched(settings, first_user(data)) as (live, viewer):
        replay, pace = ReplaySettings(num_ratings=num_ratings), PaceSettings(events_per_s=rate)
        summary = run_demo(live, data, replay, pace, folder / "page", console)
    return {
        "events_per_second_written": rate,
        "events_per_second_learned": summary["events_per_second"],
        "answers": viewer.latencies(),
    }


def first_user(data: MovieLens) -> str:
    """A user that every run has."""
    user: str = data.ratings["user_id"][0]
    return user


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench monitor", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="ratings that the learner alone, and the page, see")
    parser.add_argument("--long", type=int, default=0, help="ratings that the pipeline sees; 0: all")
    parser.add_argument(
        "--repeats", type=int, default=1, help="how often it sees them; more windows, narrower interval"
    )
    parser.add_argument("--only", choices=("learner", "pipeline", "page"), help="one part alone")
    parser.add_argument("--rate", type=float, default=10_000.0, help="events/s while the page is looked at")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--learner", nargs=2, type=Path, metavar=("CONFIG", "RUN"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.learner:
        learn_in_windows(*options.learner)
        return
    console = Console(stderr=True)
    torch.set_num_threads(1)
    settings = load_settings(environment={})
    try:
        data = movielens.load()
    except movielens.DataError:
        data = synthetic.generate(options.events, seed=7)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.only in (None, "learner"):
            report["learner"] = learner_alone(settings, data, options.events, folder / "alone")
            console.print(f"learner alone: {report['learner']}")
        if options.only in (None, "pipeline"):
            runs = pipeline(settings, data, options.long, options.repeats, folder / "pipeline")
            report["pipeline"] = compared(runs)
            console.print(f"pipeline: {report['pipeline']}")
        if options.only in (None, "page"):
            report["page"] = page(settings, data, options.events, options.rate, folder, console)
    console.print_json(json.dumps(report))
    report |= {"data": data.source, "cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
