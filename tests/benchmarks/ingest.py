"""`coldstream bench ingest`: the coalescing worker's consumer against plain Faust `take`, on one topic, in one run.

Both decode every event. Runs alternate, so that a machine that slows down slows both; medians are compared.

With `--workers N ...`, instead: events/s that N worker processes apply on one Redis, or a cluster of three masters
(`--masters 1 3`), as a table; see `beside/scaling.py`.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from beside import scaling
from beside.flavours import CLUSTER, add_server_option
from beside.running import consume
from rich.console import Console
from rich.table import Table

from simulators.faults import FaultSettings
from simulators.logs.open import open_log
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from state_store.config import JoinSettings
from stream.command.doctor import versions
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics
from stream.sections import KafkaSettings


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="impressions in the topic")
    parser.add_argument("--log", default="synthetic", help="name or file")
    parser.add_argument("--data", type=Path, help="folder with its files")
    parser.add_argument("--workers", type=int, nargs="+", help="instead, how ingest scales: numbers of workers")
    parser.add_argument("--masters", type=int, nargs="+", choices=(1, CLUSTER), default=[1], help="of Redis")
    parser.add_argument("--partitions", type=int, default=12, help="of each topic, where workers are counted")
    add_server_option(parser)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each consumer")
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    if options.workers:
        report = scaling.measure(options, console)
        scaling.show(report, console)
    else:
        report = compare(options, console)
    if options.json:
        print(msgspec.json.encode(report).decode())


def compare(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The two consumers, in turns."""
    with ExitStack() as stack:
        url = options.kafka or stack.enter_context(EmbeddedBroker()).url
        kafka = KafkaSettings(url=url, impressions=f"bench-{os.getpid()}", feedback=f"bench-{os.getpid()}-feedback")
        ensure_topics(kafka)
        log = open_log(options.log, options.data, seed=0, num_synthetic=options.events)
        how = ReplaySettings(num_rows=options.events, faults=FaultSettings(duplicates=0.0, out_of_order=0.0))
        replay = Replay(log, how, kafka.partitions, JoinSettings())
        with console.status(f"writing {options.events:,} impressions"):
            producer = ReplayProducer(kafka, PaceSettings())
            producer.write(entry for entry in replay.entries() if entry.topic == 0)
            producer.close()
        runs: dict[str, list[dict[str, float]]] = {"coalesced": [], "plain": []}
        for i in range(options.repeats):
            for kind, results in runs.items():
                with console.status(f"run {i + 1} of {options.repeats}: {kind}"):
                    results.append(consume(kind, url, [kafka.impressions], options.events))
    report = _report(runs, options.events)
    table = Table(title="events/s through an agent that decodes and does nothing else")
    for column in ("consumer", "median", "least", "greatest", "CPU us/event"):
        table.add_column(column, justify="left" if column == "consumer" else "right")
    for kind, figures in report["consumers"].items():
        rates = figures["events_per_s"]
        table.add_row(
            kind,
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f}",
            f"{max(rates):,.0f}",
            f"{figures['cpu_us_per_event']:.1f}",
        )
    console.print(table)
    console.print(f"ratio of medians: {report['ratio']:.1f}")
    return report


def _report(runs: dict[str, list[dict[str, float]]], num_events: int) -> dict[str, Any]:
    consumers = {
        kind: {
            "events_per_s": [round(r["events_per_s"], 1) for r in results],
            "cpu_us_per_event": round(median(r["cpu_us_per_event"] for r in results), 2),
        }
        for kind, results in runs.items()
    }
    coalesced, plain = (median(r["events_per_s"] for r in runs[kind]) for kind in ("coalesced", "plain"))
    return {
        "ratio": round(coalesced / plain, 2),
        "coalesced_events_per_s": round(coalesced, 1),
        "plain_events_per_s": round(plain, 1),
        "events": num_events,
        "consumers": consumers,
        "cores": os.cpu_count(),
        "versions": versions(),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
