"""`coldstream bench monitor`: what monitoring costs, and how the page answers while events flow.

Three parts in one run. Learner alone: the same samples with and without cohort figures, in turns, in one process.
Pipeline: broker, worker, Redis and learner work off a log that is complete, with all monitoring (cohort figures, the
twin, the monitor's process, somebody who looks at the page) in every other second and none of it between: a
machine that is faster now and slower then cannot pass for a difference. Page: answers of the monitor while
a producer writes at a given rate.
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
from collections import Counter
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
from stream.roles import Role, servers
from stream.settings import Settings, load_settings

_CHECKPOINT_S = 10.0
_TURN = 1280
"""Samples that one side learns before it is the other's turn."""
_WINDOW_S = 1.0
"""Short, as a shared machine's speed changes within seconds."""
_LOOK_S = 0.1
_HIGH_WATER = 1500
"""Samples that wait per partition: few, so that worker and learner work side by side, not by turns."""
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
    shares = [1 - a / b for a, b in zip(*(side.turns for side in sides), strict=True)]
    return {
        "samples": len(samples),
        "samples_per_second": round(len(samples) / plain),
        "samples_per_second_monitored": round(len(samples) / metered),
        "overhead_share": mean_of(shares),
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
    """

    def __init__(self, monitor: Role) -> None:
        self._monitor = monitor
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._alternate)
        self.cpu_s: dict[int, float] = {}
        """Window -> CPU time of the pipeline and of whoever looks at the page, as of its beginning."""

    def _alternate(self) -> None:
        while not self._over.wait(_WINDOW_S - time.time() % _WINDOW_S):
            # A timer may go off a little early.
            window = round(time.time() / _WINDOW_S)
            os.kill(self._monitor.pid, signal.SIGCONT if monitored(window * _WINDOW_S) else signal.SIGSTOP)
            self.cpu_s[window] = cpu_seconds()
        os.kill(self._monitor.pid, signal.SIGCONT)

    def __enter__(self) -> "Windows":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def cpu_seconds() -> float:
    """CPU time of this process and those that it has started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def monitored(at: float) -> bool:
    """Whether a moment lies in a window with monitoring."""
    return int(at / _WINDOW_S) % 2 == 1


def learn_in_windows(config: Path, folder: Path) -> None:
    """The learner's process: cohort figures in every other window; writes down what it learned in each."""
    role = LearnerRole(load_settings(config, environment={}), folder)
    trainer, step, monitoring = role.trainer, role.trainer.step, Monitoring(role)
    learned: Counter[int] = Counter()

    def step_in_window(*, partial: bool, now_ms: int = 0) -> int:
        now = time.time()
        monitoring.switch(on=monitored(now))
        size = step(partial=partial, now_ms=now_ms)
        learned[int(now / _WINDOW_S)] += size
        return size

    trainer.step = step_in_window  # type: ignore[method-assign]
    role.run()
    (folder / "windows.json").write_text(json.dumps(learned))


class Monitoring:
    """What a learner does for the monitor: taken from it, and given back.

    What waits to be written at the end of a monitored window is written in the next one.
    """

    def __init__(self, role: LearnerRole) -> None:
        self._role = role
        self._parts = role.trainer.meter, role._recorder, role._feed

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
    cpu_s: dict[int, float]


def pipeline(settings: Settings, data: MovieLens, num_ratings: int, folder: Path) -> Run:
    """Broker, worker, Redis and learner work off a log that is complete, with and without monitoring in turns."""
    plan = plan_replay(data, ReplaySettings(num_ratings=num_ratings))
    worker_settings = msgspec.structs.replace(settings.worker, outbox_high_water=_HIGH_WATER)
    settings = msgspec.structs.replace(settings, worker=worker_settings)
    with servers(settings) as started, watched(started, first_user(data)) as (live, viewer), ExitStack() as stack:
        viewer.only_if = monitored
        producer = ReplayProducer(live.kafka, PaceSettings())
        producer.write(iter_whole_log(data, plan, live.kafka.partitions, live.join))
        producer.close()
        folder.mkdir(parents=True)
        config = folder / "settings.json"
        config.write_bytes(msgspec.json.encode(live))
        worker = stack.enter_context(Role("worker", live, folder))
        monitor = stack.enter_context(Role("monitor", live, folder))
        log = stack.enter_context((folder / "learner.log").open("wb"))
        environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        learner = spawn([sys.executable, __file__, "--learner", str(config), str(folder)], log, environment)
        client = connect(live.redis)
        store = StateStore(client, live.redis, live.join, live.actions, live.topics)
        outbox = Outbox(client, live.redis.prefix, live.kafka.partitions)

        with Windows(monitor) as windows:
            while in_flight(producer.num_sent, store, outbox):
                worker.check()
                monitor.check()
                if learner.poll() is not None:
                    raise OperatorError(f"the learner ended; its log:\n{(folder / 'learner.log').read_text()}")
                time.sleep(1)
        learner.terminate()
        learner.wait(60)
        client.close()
    learned = msgspec.json.decode((folder / "windows.json").read_bytes(), type=dict[int, int], strict=False)
    print(sorted(learned.items()), sorted(windows.cpu_s.items()), viewer.latencies())
    return Run(learned, windows.cpu_s)


def compared(runs: Sequence[Run]) -> dict[str, Any]:
    """Each monitored window beside its two neighbours; a run's first and last window do not count."""
    rates: dict[str, list[float]] = {"monitored": [], "bare": []}
    costs: dict[str, list[float]] = {"monitored": [], "bare": []}
    slower, dearer = [], []
    for run in runs:
        whole = [w for w in sorted(run.learned)[1:-1] if {w, w + 1} <= run.cpu_s.keys()]
        rate = {w: run.learned[w] / _WINDOW_S for w in whole}
        cost = {w: (run.cpu_s[w + 1] - run.cpu_s[w]) / run.learned[w] for w in whole}
        for w in whole:
            name = "monitored" if monitored(w * _WINDOW_S) else "bare"
            rates[name].append(rate[w])
            costs[name].append(cost[w])
            if name == "monitored" and {w - 1, w + 1} <= rate.keys():
                slower.append(1 - rate[w] / ((rate[w - 1] + rate[w + 1]) / 2))
                dearer.append(cost[w] / ((cost[w - 1] + cost[w + 1]) / 2) - 1)
    if len(slower) < 2:
        raise OperatorError(f"--long: done within too few windows of {_WINDOW_S:g} s to compare; give more")
    return {
        "windows": len(slower),
        "samples_per_second": {name: round(statistics.mean(of)) for name, of in rates.items()},
        "overhead_share": mean_of(slower),
        "cpu_microseconds_per_sample": {name: round(statistics.mean(of) * 1e6, 1) for name, of in costs.items()},
        "cpu_overhead_share": mean_of(dearer),
    }


def mean_of(values: Sequence[float]) -> dict[str, float]:
    """Mean and the half width of its 95 % interval."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": round(statistics.mean(values), 4), "plus_minus": round(1.96 * error, 4)}


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
            runs = []
            for n in range(options.repeats):
                runs.append(pipeline(settings, data, options.long, folder / f"pipeline{n}"))
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
