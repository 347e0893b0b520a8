"""`coldstream bench pipeline`: end-to-end events/s beside ingest only, learner only, and plain Faust, in one run.

Ingest only: a worker reads a log that is complete, and nobody learns. Learner only: a learner then trains on the outbox
that this left. Plain Faust: stock `take` then reads the same log from the same broker, decodes it, and does nothing
else. End to end: the demo, with a new Redis and new topics, from the first record that is written, of a log that has
been read, to the last sample that is learned; `published_after_s` says how much later weights with all of it are in
force, which `publish.interval_s` decides, and `cpu_us_per_event` what CPU each process took meanwhile (a broker that is
given by --kafka is none of them): on a machine that is busy with other things that says more than a rate does. All see
the same replay; the slower of the first two is the bottleneck of the last, as far as they do not share cores.

With `--control DIR`, the same benchmark of another checkout, with its own code, in turns with this one's: `--pairs` of
both, each in a process of its own, the order swapped each time.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
from beside.running import ROOT, ControlError, consume, ratios, run_benchmark, time_until
from beside.turns import cpu_s, write_whole_log
from chosen_log import add_log_options, chosen_log, own_topics
from rich.console import Console
from rich.table import Table

from simulators.logs.log import Log
from simulators.pace import PaceSettings
from simulators.replay import Replay, ReplaySettings
from simulators.runs.demo import Demo
from state_store.client import connect
from state_store.outbox import Outbox
from stream.command.doctor import versions
from stream.command.roles import Role, servers
from stream.process.status import read_status
from stream.process.store import open_store
from stream.settings import Settings, load_settings

_ROLES = {
    " worker ": "worker",
    " learner ": "learner",
    " monitor ": "monitor",
    "redis-server": "redis",
    "tansu": "broker",
}
"""Processes by what stands in their command lines."""
_RATES = (
    "ingest_events_per_s",
    "learner_events_per_s",
    "learner_samples_per_s",
    "end_to_end_events_per_s",
    "plain_faust_events_per_s",
)


def apart(settings: Settings, log: Log, how: ReplaySettings, folder: Path) -> dict[str, float]:
    """Rates of ingest only, learner only and plain Faust."""
    unbounded = msgspec.structs.replace(settings.worker, outbox_high_water=10**9)
    with servers(msgspec.structs.replace(settings, worker=unbounded)) as live:
        partitions = live.kafka.partitions
        num_events = write_whole_log(live, Replay(log, how, partitions, live.join, live.horizon_ms))
        client = connect(live.redis)
        store = open_store(live, client)
        outbox = Outbox(client, live.redis.prefix, partitions)

        def applied() -> int:
            return sum(o + 1 for of in store.fence_offsets(range(partitions)).values() for o in of.values())

        def trained() -> int:
            status = read_status(client, live.redis.prefix)
            return status.num_trained if status else 0

        with Role("worker", live, folder) as worker:
            ingest_s = time_until(applied, num_events, [worker])
        num_samples = sum(outbox.sequences().values())
        with Role("learner", live, folder) as learner:
            learn_s = time_until(trained, num_samples, [learner])
        plain = consume("plain", live.kafka.url, live.topics, num_events)
    return {
        "ingest_events_per_s": round(num_events / ingest_s, 1),
        "learner_samples_per_s": round(num_samples / learn_s, 1),
        "learner_events_per_s": round(num_events / learn_s, 1),
        "plain_faust_events_per_s": round(plain["events_per_s"], 1),
    }


def _cpu_s() -> dict[str, float]:
    """CPU seconds so far of this process, which writes the replay, and of those that it started."""
    ours = psutil.Process()
    found = {"replay": cpu_s(ours)}
    for child in ours.children(recursive=True):
        said = " ".join(child.cmdline())
        name = next((name for part, name in _ROLES.items() if part in said), "others")
        found[name] = found.get(name, 0.0) + cpu_s(child)
    return found


class Watched(Demo):
    """A demo that looks what CPU its processes take, of which start-up is no part."""

    cpu_s: dict[str, float]

    def _write(self, *how: Any) -> None:
        self.cpu_s = _cpu_s()
        super()._write(*how)

    def _wait_until_learned(self, *how: Any) -> None:
        super()._wait_until_learned(*how)
        self.cpu_s = {name: taken - self.cpu_s.get(name, 0.0) for name, taken in _cpu_s().items()}


def whole(
    settings: Settings, log: Log, how: ReplaySettings, in_flight: int, folder: Path, console: Console
) -> dict[str, Any]:
    """Rate and CPU end to end."""
    with servers(settings) as live:
        demo = Watched(live, log, how, PaceSettings(in_flight=in_flight), folder, console)
        summary = demo.run()
    num_events = summary["events_produced"]
    by_process = {name: round(taken / num_events * 1e6, 2) for name, taken in demo.cpu_s.items()}
    return {
        "end_to_end_events_per_s": summary["events_per_second"],
        "events": num_events,
        "in_flight": in_flight,
        "counts_match": summary["counts_match"],
        "published_after_s": summary["published_after_seconds"],
        "cpu_us_per_event": by_process | {"all": round(sum(by_process.values()), 2)},
    }


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """One run of everything, in this process and its roles."""
    log = chosen_log(options, options.events)
    # What is asked is not of the scorer, which would take a share of the processors.
    overrides = [f"kafka.url={options.kafka!r}", "serving.enabled=false"]
    settings = load_settings(overrides=overrides, defaults=log.settings)
    how = ReplaySettings(num_rows=options.events)
    with tempfile.TemporaryDirectory() as scratch:
        with console.status("ingest only, learner only, plain Faust"):
            report: dict[str, Any] = apart(own_topics(settings, "apart"), log, how, Path(scratch) / "apart")
        console.print("end to end")
        folder = Path(scratch) / "whole"
        report |= whole(own_topics(settings, "whole"), log, how, options.in_flight, folder, console)
    rate = report["end_to_end_events_per_s"]
    slower = min(report["ingest_events_per_s"], report["learner_events_per_s"])
    report["ratio"] = round(rate / slower, 3)
    report["ratio_to_plain_faust"] = round(rate / report["plain_faust_events_per_s"], 3)
    report["bottleneck"] = "learner" if slower == report["learner_events_per_s"] else "ingest"
    return report | {"data": log.source, "cores": os.cpu_count(), "versions": versions()}


def compare(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Pairs of runs of this checkout and of another one.

    Raises:
        ControlError: the other one cannot be run.
    """
    if options.kafka:
        # An older release's parts would read each other's records there.
        raise ControlError(f"--kafka {options.kafka} and --control exclude each other; each brings a broker of its own")
    arguments = ["--events", str(options.events)]
    source = chosen_log(options, options.events).source
    if Path(source).is_dir():
        # As seen from the other checkout.
        arguments += ["--data", str(Path(source).resolve())]
    arguments += ["--log", options.log or ("ml-1m" if Path(source).is_dir() else "synthetic")]
    runs: dict[Path, list[dict[str, Any]]] = {ROOT: [], options.control: []}
    for pair in range(options.pairs):
        for checkout, found in list(runs.items())[:: -1 if pair % 2 else 1]:
            with console.status(f"pair {pair + 1} of {options.pairs}: {checkout}"):
                found.append(run_benchmark(checkout, "pipeline", arguments))
            console.print(f"{checkout}: {found[-1]['end_to_end_events_per_s']:,.0f} events/s end to end")
    ours, theirs = runs.values()
    report = dict(ours[-1])
    for name in (*_RATES, "ratio_to_plain_faust"):
        report[name] = median([run[name] for run in ours])
    slower = min(report["ingest_events_per_s"], report["learner_events_per_s"])
    report["ratio"] = round(report["end_to_end_events_per_s"] / slower, 3)
    shared = [name for name in _RATES if name in theirs[0]]
    report |= {f"control_{name}": median([run[name] for run in theirs]) for name in shared}
    report["ratio_to_control"] = {name: ratios(ours, theirs, name) for name in shared}
    report |= {"control": str(options.control), "pairs": options.pairs}
    return report | {"runs": ours, "control_runs": theirs}


def show(report: dict[str, Any], console: Console) -> None:
    """The rates, for people."""
    table = Table(title="events/s (both topics)")
    table.add_column("part")
    table.add_column("events/s", justify="right")
    against = report.get("ratio_to_control", {})
    if against:
        for column in ("control", "ratio", "range"):
            table.add_column(column, justify="right")
    for part in ("ingest", "learner", "end_to_end", "plain_faust"):
        name = f"{part}_events_per_s"
        cells = [part.replace("_", " "), f"{report[name]:,.0f}"]
        if name in against:
            ratio = against[name]
            cells += [f"{report[f'control_{name}']:,.0f}", f"{ratio['median']:.2f}"]
            cells += [f"{ratio['least']:.2f} to {ratio['greatest']:.2f}"]
        table.add_row(*cells)
    console.print(table)
    cpu = ", ".join(f"{name} {us:.1f}" for name, us in report["cpu_us_per_event"].items())
    console.print(f"CPU us per event, end to end: {cpu}")
    console.print(
        f"bottleneck: {report['bottleneck']}; end to end runs at {report['ratio']:.0%} of it alone, and at "
        f"{report['ratio_to_plain_faust']:.2f} times the rate of a plain Faust agent that does nothing"
    )


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench pipeline", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="rows replayed")
    parser.add_argument(
        "--in-flight", type=int, default=60_000, help="events between producer and learner; fewer measure latency"
    )
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--control", type=Path, help="root of another checkout, to be compared with")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, with --control")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    report = compare(options, console) if options.control else measure(options, console)
    show(report, console)
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
