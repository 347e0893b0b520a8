"""`coldstream bench stages`: what each stage of worker and learner takes, in microseconds, on a recorded log.

Both run in one process, in turns of a few thousand events, so that a machine that slows down slows all of them; the
first tenth is not counted. A worker waits for its calls: its way is the sum of its parts and of Redis' script. Which
of worker, Redis and learner needs most per event bounds the pipeline, if each has a core; with fewer cores, so does the
sum of what they compute. On a machine that is busy with other things, go by CPU time: a worker's way is then its own
and that of Redis.
"""

import argparse
import os
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psutil
from beside.clock import Clock
from beside.profiled import Taught, Worker
from beside.turns import cpu_s
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table

from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from stream.command.doctor import versions
from stream.process.garbage import spare_garbage_collector
from stream.settings import Settings, load_settings

_ROUND = 4096
"""Events that the worker takes before the learner goes on."""
_UNCOUNTED = 0.1
_WIDTH = 120
"""Of tables that go to a file."""


def profile(settings: Settings, log: Log, num_rows: int) -> dict[str, Any]:
    """Seconds by part of worker and learner, CPU seconds of Redis, and how many events and samples they were."""
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        redis = msgspec.structs.replace(settings.redis, url=server.url)
        settings = msgspec.structs.replace(settings, redis=redis)
        client, process = connect(redis), psutil.Process(server.pid)
        clocks = Clock(), Clock()
        worker = Worker(settings, client, clocks[0])
        taught = Taught(settings, client, clocks[1], Path(folder))
        replay = Replay(log, ReplaySettings(num_rows=num_rows), settings.kafka.partitions, settings.join)
        entries, is_counted = replay.whole_log(), False
        spare_garbage_collector()
        begun, redis_s = (0, 0, 0), 0.0
        try:
            while some := list(islice(entries, _ROUND)):
                if not is_counted and replay.num_rows > _UNCOUNTED * num_rows:
                    is_counted = True
                    begun, redis_s = (worker.num_events, worker.num_calls, taught.num_samples), cpu_s(process)
                    for clock in clocks:
                        clock.clear()
                worker.take(some)
                taught.learn()
            redis_s = cpu_s(process) - redis_s
        finally:
            clocks[1].release()
        return {
            "events": worker.num_events - begun[0],
            "calls": worker.num_calls - begun[1],
            "samples": taught.num_samples - begun[2],
            "worker_s": worker.settled(),
            "learner_s": (dict(clocks[1].seconds), dict(clocks[1].cpu)),
            "redis_s": redis_s,
        }


def summed_up(found: dict[str, Any], cores: int) -> dict[str, Any]:
    """Microseconds per event, and per sample for the learner; and what bounds the pipeline."""
    events, samples = found["events"], found["samples"]
    (worker, worker_cpu), (learner, learner_cpu) = found["worker_s"], found["learner_s"]
    per_event = {
        "worker": sum(worker.values()) / events * 1e6,
        "redis": found["redis_s"] / events * 1e6,
        "learner": sum(learner.values()) / events * 1e6,
    }
    cpu = {
        "worker": sum(worker_cpu.values()) / events * 1e6,
        "redis": per_event["redis"],
        "learner": sum(learner_cpu.values()) / events * 1e6,
    }
    longest_cpu = max(cpu["worker"] + cpu["redis"], cpu["learner"])

    def each(seconds: dict[str, float], count: int) -> dict[str, float]:
        return {name: round(s / count * 1e6, 2) for name, s in seconds.items()}

    alone = max(per_event, key=lambda name: per_event[name])
    return {
        "events": events,
        "samples": samples,
        "events_per_call": round(events / found["calls"], 1),
        "worker_us_per_event": each(worker, events),
        "worker_cpu_us_per_event": each(worker_cpu, events),
        "learner_us_per_sample": each(learner, samples),
        "learner_cpu_us_per_sample": each(learner_cpu, samples),
        "us_per_event": {name: round(us, 2) for name, us in per_event.items()},
        "bound": alone,
        "cpu_us_per_event": {name: round(us, 2) for name, us in cpu.items()},
        "bound_events_per_s": round(1e6 / per_event[alone]),
        "bound_by_cpu": "learner" if longest_cpu == cpu["learner"] else "worker",
        "bound_by_cpu_events_per_s": round(1e6 / longest_cpu),
        "bound_by_cores_events_per_s": round(1e6 * cores / sum(cpu.values())),
        "cores": cores,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """All parts, for people."""
    table = Table(title=f"{report['events']:,} events, {report['samples']:,} samples")
    for column in ("who", "part", "us per event", "CPU", "us per sample", "CPU", "share"):
        table.add_column(column, justify="left" if column in ("who", "part") else "right")
    per_sample = report["samples"] / report["events"]
    for who, unit in (("worker", "event"), ("learner", "sample")):
        parts, cpu = report[f"{who}_us_per_{unit}"], report[f"{who}_cpu_us_per_{unit}"]
        scale = per_sample if unit == "sample" else 1.0

        def row(part: str, us: float, cpu_us: float, share: str, *, who: str = who, scale: float = scale) -> None:
            by_sample = (f"{us:.2f}", f"{cpu_us:.2f}") if who == "learner" else ("", "")
            table.add_row(who, part, f"{us * scale:.2f}", f"{cpu_us * scale:.2f}", *by_sample, share)

        whole = sum(parts.values())
        for part, us in sorted(parts.items(), key=lambda named: -named[1]):
            row(part, us, cpu.get(part, 0.0), f"{us / whole:.0%}")
        row("altogether", whole, sum(cpu.values()), "")
        table.add_section()
    table.add_row("redis", "all of it", "", f"{report['us_per_event']['redis']:.2f}", "", "", "")
    console.print(table)
    console.print(
        f"calls of {report['events_per_call']:.0f} events; {report['bound']} bounds: at most "
        f"{report['bound_events_per_s']:,} events/s with a core for each. By CPU time: {report['bound_by_cpu']}, "
        f"{report['bound_by_cpu_events_per_s']:,} events/s, and {report['bound_by_cores_events_per_s']:,} if all they "
        f"compute is spread over {report['cores']} cores"
    )


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench stages", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="rows replayed")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)
    log = chosen_log(options, options.events)
    settings = load_settings(environment={}, overrides=options.set, defaults=log.settings)
    with console.status("replaying"):
        report = summed_up(profile(settings, log, options.events), os.cpu_count() or 1)
    report |= {"data": log.source, "versions": versions()}
    show(report, console)
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
