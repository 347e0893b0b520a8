"""`coldstream bench monitor`: what monitoring costs, and how the page answers while events flow.

Cost: two pipelines, each with a worker, Redis and a learner of its own, work off the same log in turns (`turns.py`).
One has all monitoring on: cohort figures, the twin, the monitor's process, and somebody who looks at the page. Page:
answers of the monitor while a producer writes at a given rate.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from beside.turns import WrittenLog, alternate, waiting_pipeline, with_interval, written_log
from beside.viewer import Viewer
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table

from simulators.logs.log import Log
from simulators.pace import PaceSettings
from simulators.replay import Replay, ReplaySettings
from simulators.runs.demo import run_demo
from state_store.embedded.child import free_port
from stream.command.doctor import versions
from stream.sections import MonitorSettings
from stream.settings import Settings, load_settings

_PAGE_ROWS = 100_000


def pipelines(log: WrittenLog, user: str, folder: Path, *, watch: bool, swapped: bool) -> dict[str, dict[str, float]]:
    """One run of a pipeline with monitoring and one without, in turns; what each took, as of `Arm.taken`.

    Args:
        log: what both work off.
        user: who is looked up on the page.
        folder: for both.
        watch: whether one of them is monitored at all.
        swapped: whether that one is started last.
    """
    monitors = {
        "monitored": with_monitor(log.settings, enabled=watch),
        "bare": with_monitor(log.settings, enabled=False),
    }
    with ExitStack() as stack:
        arms = {
            name: stack.enter_context(waiting_pipeline(log, monitors[name], folder / name))
            for name in (reversed(monitors) if swapped else monitors)
        }
        if watch:
            stack.enter_context(Viewer(monitors["monitored"], user, lambda: arms["monitored"].is_awake))
        alternate(list(arms.values()))
        return {name: arm.taken() for name, arm in arms.items()}


def with_monitor(settings: Settings, *, enabled: bool = True) -> MonitorSettings:
    """Settings of a monitor on a free port, or of none."""
    return msgspec.structs.replace(settings.monitor, enabled=enabled, port=free_port())


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


def cost(settings: Settings, log: Log, options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Runs of both pipelines, compared; each is shown as it ends."""
    runs, how = [], ReplaySettings(num_rows=options.events)
    replay = Replay(log, how, settings.kafka.partitions, settings.join)
    console.print(f"writing the log of {options.events:,} rows")
    with written_log(settings, replay) as written:
        for n in range(options.repeats):
            watch, swapped = not options.control, n % 2 == 1
            runs.append(pipelines(written, first_user(log), folder / str(n), watch=watch, swapped=swapped))
            console.print(f"run {n + 1}: throughput lost {compared(runs[-1:])['throughput_lost']['mean']:.1%}")
    return compared(runs)


def page(settings: Settings, log: Log, num_rows: int, rate: float, folder: Path, console: Console) -> dict[str, Any]:
    """How the monitor answers while a producer writes `rate` events/s."""
    settings = msgspec.structs.replace(settings, monitor=with_monitor(settings))
    with Viewer(settings.monitor, first_user(log)) as viewer:
        how, pace = ReplaySettings(num_rows=num_rows), PaceSettings(events_per_s=rate)
        summary = run_demo(settings, log, how, pace, folder / "page", console)
    return {
        "events_per_second_written": rate,
        "events_per_second_learned": summary["events_per_second"],
        "answers": viewer.latencies(),
    }


def first_user(log: Log) -> str:
    """A user that every run has."""
    user: str = next(log.stretches(num_rows=1))["user_id"][0]
    return user


def show(cost: dict[str, Any], console: Console) -> None:
    """The cost, for people."""

    def said(share: dict[str, float | None]) -> str:
        half = share["plus_minus"]
        return f"{share['mean']:.1%}" + ("" if half is None else f" ± {half:.1%}")

    table = Table(title=f"what monitoring costs, {cost['runs']} runs, 95 % intervals")
    table.add_column("")
    table.add_column("share", justify="right")
    table.add_row("throughput lost", said(cost["throughput_lost"]))
    table.add_row("more CPU time", said(cost["more_cpu_time"]))
    for process, share in cost["more_cpu_time_of"].items():
        table.add_row(f"  of it {process}", said(share))
    console.print(table)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench monitor", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="rows that the two pipelines see")
    parser.add_argument("--repeats", type=int, default=6, help="how often they see them")
    parser.add_argument("--control", action="store_true", help="monitor neither of them: shows no difference")
    parser.add_argument("--rate", type=float, default=10_000.0, help="events/s while the page is looked at")
    parser.add_argument("--only", choices=("cost", "page"), help="one part alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    log = chosen_log(options, options.events)
    settings = load_settings(environment={}, overrides=["serving.enabled=false"], defaults=log.settings)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.only in (None, "cost"):
            report["cost"] = cost(settings, log, options, folder, console)
            show(report["cost"], console)
        if options.only in (None, "page"):
            num_rows = min(options.events, _PAGE_ROWS)
            report["page"] = page(settings, log, num_rows, options.rate, folder, console)
            console.print_json(json.dumps(report["page"]))
    report |= {"data": log.source, "cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
