"""`coldstream bench monitor`: what monitoring costs, and how the page answers while events flow.

Three parts in one run. Learner alone: the same samples with and without cohort figures, in turns, in one process.
Pipeline: producer, broker, worker, Redis and learner at full speed, with all monitoring (cohort figures, the twin, the
monitor's process, somebody who looks at the page) in every other window of eight seconds and none of it between: a
machine that is faster now and slower then cannot pass for a difference. Page: answers of the monitor while a producer
writes at a given rate.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
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
from stream.learner_role import LearnerRole, read_status
from stream.monitor.meter import Meter
from stream.monitor.twin_feed import TwinFeed
from stream.prediction_log import PredictionLog, item_mean_baseline
from stream.roles import Role, servers, wait_until
from stream.settings import Settings, load_settings

_CHECKPOINT_S = 10.0
_TURN = 1280
"""Samples that one side learns before it is the other's turn."""
_WINDOW_S = 8.0
"""Some seconds of samples are under way in the pipeline: shorter windows would measure who has them."""
_WARM_UP_WINDOWS = 1
_KINDS = ((1, "monitored"), (0, "bare"))
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

    def learn(self, samples: list[Sample]) -> None:
        """As the trainer does; what belongs to a checkpoint is written as often as in a live run."""
        started = time.perf_counter()
        for at in range(0, len(samples), self._size):
            batch = samples[at : at + self._size]
            learned = self._learner.learn(batch)
            popularity_B = item_mean_baseline(learned.counts_BC[:, learned.counts_BC.shape[1] // 2 :])
            self._log.append([(0, 0, sample) for sample in batch], learned.predictions_B, popularity_B, 0)
            if self._meter is not None:
                self._meter.observe(batch, learned, popularity_B, 0, time.time_ns() // 1_000_000)
        if self.seconds + time.perf_counter() - started >= self._checkpoint_at:
            self._checkpoint_at += _CHECKPOINT_S
            self._checkpoint()
        self.seconds += time.perf_counter() - started

    def _checkpoint(self) -> None:
        self._log.flush(1)
        if self._meter is not None:
            for bucket in self._meter.cut(time.time_ns() // 1_000_000):
                bucket.encode()
            self._feed.write(1)
            self._feed.durable(1)


def learner_alone(settings: Settings, data: MovieLens, num_ratings: int, folder: Path) -> dict[str, float]:
    """Both sides' samples per second."""
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
        "overhead_share": round(1 - plain / metered, 4),
        "microseconds_per_sample": round((metered - plain) / len(samples) * 1e6, 2),
    }


# Pipeline -----------------------------------------------------------------------------------------------------------


class Viewer:
    """Somebody who has the page open: asks for what it asks for, as often, and looks a user up now and then."""

    def __init__(self, url: str, user: str) -> None:
        self._asks = {"api/health": 2.0, "api/view": 4.0, f"api/user?id={user}": 20.0}
        self._url = url
        self.only_if: Callable[[float], bool] = lambda _: True
        """Whether to ask at a moment."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seconds: dict[str, list[float]] = {path: [] for path in self._asks}

    def _look(self) -> None:
        due = dict.fromkeys(self._asks, 0.0)
        while not self._stop.wait(0.1):
            if not self.only_if(time.time()):
                continue
            for path, every in self._asks.items():
                if time.monotonic() >= due[path]:
                    due[path] = time.monotonic() + every
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
    """Stops the monitor's process in every other window, and lets it go on in those between."""

    def __init__(self, monitor: Role) -> None:
        self._monitor = monitor
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._alternate)

    def _alternate(self) -> None:
        while not self._over.wait(_WINDOW_S - time.time() % _WINDOW_S):
            os.kill(self._monitor.pid, signal.SIGCONT if monitored(time.time()) else signal.SIGSTOP)
        os.kill(self._monitor.pid, signal.SIGCONT)

    def __enter__(self) -> "Windows":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def monitored(at: float) -> bool:
    """Whether a moment lies in a window with monitoring."""
    return int(at / _WINDOW_S) % 2 == 1


def learn_in_windows(config: Path, folder: Path) -> None:
    """The learner's process: cohort figures in every other window; writes down what it learned in each."""
    role = LearnerRole(load_settings(config, environment={}), folder)
    trainer, meter, step = role.trainer, role.trainer.meter, role.trainer.step
    learned: Counter[int] = Counter()

    def step_in_window(*, partial: bool, now_ms: int = 0) -> int:
        now = time.time()
        trainer.meter = meter if monitored(now) else None
        size = step(partial=partial, now_ms=now_ms)
        learned[int(now / _WINDOW_S)] += size
        return size

    trainer.step = step_in_window  # type: ignore[method-assign]
    role.run()
    (folder / "windows.json").write_text(json.dumps(learned))


def pipeline(settings: Settings, data: MovieLens, num_ratings: int, folder: Path) -> dict[str, Any]:
    """Samples/s of the whole pipeline in windows with and without monitoring."""
    plan = plan_replay(data, ReplaySettings(num_ratings=num_ratings))
    with servers(settings) as started, watched(started, first_user(data)) as (live, viewer), ExitStack() as stack:
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

        def ready() -> bool:
            return read_status(client, live.redis.prefix) is not None and "http://" in monitor.log.read_text()

        wait_until(ready, "learner and monitor to start", [worker, monitor])
        pace = PaceSettings(in_flight=10_000)
        producer = ReplayProducer(live.kafka, pace, lambda sent: in_flight(sent, store, outbox))
        viewer.only_if = monitored
        with Windows(monitor):
            began = time.time()
            producer.write(iter_whole_log(data, plan, live.kafka.partitions, live.join))
            ended = time.time()
        producer.close()
        learner.terminate()
        learner.wait(60)
        client.close()
    learned = {int(window): size for window, size in json.loads((folder / "windows.json").read_text()).items()}
    return compared(learned, int(began / _WINDOW_S) + _WARM_UP_WINDOWS, int(ended / _WINDOW_S))


def compared(learned: dict[int, int], first: int, last: int) -> dict[str, Any]:
    """Each monitored window beside its two neighbours.

    Args:
        learned: window -> samples.
        first: the first window that counts.
        last: the first that does not any more.
    """
    found = [
        1 - learned[w] / ((learned[w - 1] + learned[w + 1]) / 2)
        for w in range(first, last)
        if w % 2 and {w - 1, w + 1} <= learned.keys() and w - 1 >= first and w + 1 < last
    ]
    if not found:
        raise OperatorError(
            f"--long: done within {max(last - first, 0)} windows of {_WINDOW_S:g} s, too few to compare; give more"
        )
    rates = {
        name: [n / _WINDOW_S for w, n in learned.items() if first <= w < last and w % 2 == k] for k, name in _KINDS
    }
    error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return {
        "windows": len(found),
        "samples_per_second": {name: round(statistics.mean(of)) for name, of in rates.items() if of},
        "overhead_share": round(statistics.mean(found), 4),
        "plus_minus": round(1.96 * error, 4),
    }


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
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        report: dict[str, Any] = {"learner": learner_alone(settings, data, options.events, folder / "alone")}
        console.print(f"learner alone: {report['learner']}")
        report["pipeline"] = pipeline(settings, data, options.long, folder / "pipeline")
        console.print(f"pipeline: {report['pipeline']}")
        report["page"] = page(settings, data, options.events, options.rate, folder, console)
    report |= {"data": data.source, "cores": os.cpu_count(), "versions": versions()}
    console.print_json(json.dumps({name: report[name] for name in ("learner", "pipeline", "page")}))
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
