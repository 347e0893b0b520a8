"""`coldstream bench monitor`: what monitoring costs, and how the page answers while events flow.

Three parts in one run. Learner alone: the same samples with and without cohort figures, in turns, in one process.
Pipeline: two of them, each with a broker, a worker, Redis and a learner of its own, work off the same log in turns of a
second (see `turns.py`); one has all monitoring on: cohort figures, the twin, the monitor's process, somebody who looks
at the page. Page: answers of the monitor while a producer writes at a given rate.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console
from turns import alternate, paused_pipeline, with_interval
from viewer import watched

from learner.learner import Learner
from learner.sample import Sample, decode_samples
from simulators import movielens, synthetic
from simulators.backtest import Backtest, BacktestSettings
from simulators.demo import run_demo
from simulators.movielens import MovieLens
from simulators.producer import PaceSettings
from simulators.replay import Plan, ReplaySettings, iter_whole_log, plan_replay
from state_store.client import connect
from state_store.embedded import EmbeddedRedis
from state_store.outbox import Outbox
from stream.doctor import versions
from stream.monitor.meter import Meter
from stream.monitor.twin_feed import TwinFeed
from stream.prediction_log import PredictionLog, item_mean_baseline, log_rows
from stream.settings import Settings, load_settings

_CHECKPOINT_S = 10.0
_TURN = 1280
"""Samples that one side learns before it is the other's turn."""
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
    mean_s = metered / len(sides[1].turns)
    return {
        "samples": len(samples),
        "samples_per_second": round(len(samples) / plain),
        "samples_per_second_monitored": round(len(samples) / metered),
        # Of the mean turn, so that they sum up to the share of the whole.
        "throughput_lost": with_interval([(m - p) / mean_s for p, m in zip(*(s.turns for s in sides), strict=True)]),
        "microseconds_per_sample": round((metered - plain) / len(samples) * 1e6, 2),
    }


# Pipeline -----------------------------------------------------------------------------------------------------------


def pipelines(
    settings: Settings, data: MovieLens, plan: Plan, folder: Path, *, watch: bool, swapped: bool
) -> dict[str, dict[str, float]]:
    """One run of a pipeline with monitoring and one without, in turns; what each took, as of `Arm.taken`.

    Args:
        settings: of both.
        data: what is replayed.
        plan: how.
        folder: for both.
        watch: whether one of them is monitored at all.
        swapped: whether that one is started last.
    """
    bare = with_monitor(settings, enabled=False)
    with watched(with_monitor(settings, enabled=watch), first_user(data)) as (live, viewer), ExitStack() as stack:
        viewer.only_if = lambda: False
        arms = {}
        for name in ("bare", "monitored") if swapped else ("monitored", "bare"):
            own = live if name == "monitored" else bare
            arms[name] = stack.enter_context(paused_pipeline(own, data, plan, folder / name))
        viewer.only_if = lambda: watch and arms["monitored"].is_awake
        alternate(list(arms.values()))
        viewer.only_if = lambda: False
        return {name: arm.taken() for name, arm in arms.items()}


def with_monitor(settings: Settings, *, enabled: bool) -> Settings:
    """Settings with the monitor on or off."""
    return msgspec.structs.replace(settings, monitor=msgspec.structs.replace(settings.monitor, enabled=enabled))


def compared(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Throughput lost, and CPU time gained, run by run; whole runs, as two processes that do the same differ a bit."""
    throughput_lost, more_cpu, where = [], [], defaultdict(list)
    for run in runs:
        bare, monitored = (dict(run[name]) for name in ("bare", "monitored"))
        throughput_lost.append(1 - bare.pop("seconds") / monitored.pop("seconds"))
        more_cpu.append(sum(monitored.values()) / sum(bare.values()) - 1)
        for process, cpu_s in monitored.items():
            where[process].append((cpu_s - bare.get(process, 0.0)) / sum(bare.values()))
    return {
        "runs": len(runs),
        "throughput_lost_by_run": [round(share, 4) for share in throughput_lost],
        "throughput_lost": with_interval(throughput_lost),
        "more_cpu_time": with_interval(more_cpu),
        "more_cpu_time_of": {process: with_interval(shares) for process, shares in where.items()},
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
    parser.add_argument("--repeats", type=int, default=1, help="how often two pipelines see them")
    parser.add_argument("--only", choices=("learner", "pipeline", "page"), help="one part alone")
    parser.add_argument("--rate", type=float, default=10_000.0, help="events/s while the page is looked at")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--control", action="store_true", help="monitor neither of two pipelines: shows no difference")
    options = parser.parse_args(arguments)
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
            runs, plan = [], plan_replay(data, ReplaySettings(num_ratings=options.long))
            for n in range(options.repeats):
                watch, swapped = not options.control, n % 2 == 1
                run = folder / f"pipelines-{n}"
                runs.append(pipelines(settings, data, plan, run, watch=watch, swapped=swapped))
                console.print(f"pipelines, run {n + 1}: {runs[-1]}")
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
