"""`coldstream bench freshness`: how soon what is written is in published weights, while events come at a given rate.

The demo, with `publish.interval_s = 1`: a replay writes `--rate` events/s for `--seconds`. Freshness is the time from a
record's being written to the first published weights that learned from it; it has the label window in it, as far as
that takes time: by event time, of which a fast replay has much per second. Lag: events that are written and not
applied, and samples that are joined and not learned, when the last event is written; and how long it takes to learn
those.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chosen_log import add_log_options, chosen_log, own_topics
from rich.console import Console
from rich.table import Table

from simulators.logs.log import Log
from simulators.pace import PaceSettings
from simulators.replay import Replay, ReplaySettings
from simulators.runs.demo import Demo
from stream.command.display import Display
from stream.command.doctor import versions
from stream.command.roles import Role, servers
from stream.settings import Settings, load_settings

_COUNTED_ROWS = 20_000
"""First rows of a log, by which it is told how many events a row makes."""


class Watched(Demo):
    """A demo that looks when its replay has just been written."""

    lag_at_end = 0
    caught_up_s = 0.0

    def _wait_until_learned(
        self, ends: dict[tuple[int, int], int], display: Display, sent: int, roles: tuple[Role, ...]
    ) -> None:
        self.lag_at_end, written = self._in_flight(sent), time.monotonic()
        super()._wait_until_learned(ends, display, sent, roles)
        self.caught_up_s = time.monotonic() - written


def rows_for(log: Log, settings: Settings, num_events: int) -> ReplaySettings:
    """A replay of about so many events: more than one round of a log that has fewer."""
    total, _, _ = log.span()
    counted = min(total or _COUNTED_ROWS, _COUNTED_ROWS)
    some = Replay(log, ReplaySettings(num_rows=counted), settings.kafka.partitions, settings.join)
    wanted = max(1, round(num_events * counted / some.count_events()))
    rounds = math.ceil(wanted / total) if total else 1
    return ReplaySettings(num_rows=math.ceil(wanted / rounds), rounds=rounds)


def measure(settings: Settings, log: Log, rate: float, seconds: float, console: Console) -> dict[str, Any]:
    """One run."""
    how = rows_for(log, settings, round(rate * seconds))
    with servers(settings) as live, tempfile.TemporaryDirectory() as folder:
        demo = Watched(live, log, how, PaceSettings(events_per_s=rate), Path(folder), console)
        summary = demo.run()
    writing_s = summary["seconds"] - demo.caught_up_s
    return {
        "rate": rate,
        "written_events_per_s": round(summary["events_produced"] / writing_s, 1),
        "seconds": round(writing_s, 2),
        "events": summary["events_produced"],
        "freshness_s": {name: _plain(value) for name, value in summary["freshness_seconds"].items()},
        "lag_at_end": demo.lag_at_end,
        "caught_up_s": round(demo.caught_up_s, 2),
        "lag_samples": summary["lag_samples"],
        "weights_version": summary["weights_version"],
        "counts_match": summary["counts_match"],
    }


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 3)


def show(runs: Sequence[dict[str, Any]], console: Console) -> None:
    """For people."""
    table = Table(title="freshness: from a record to published weights")
    columns = ("asked events/s", "written events/s", "p50 s", "p99 s", "lag at the end", "learned after, s")
    for column in columns:
        table.add_column(column, justify="right")
    for run in runs:
        p50, p99 = (f"{run['freshness_s'][name] or math.nan:.2f}" for name in ("p50", "p99"))
        rates = f"{run['rate']:,.0f}", f"{run['written_events_per_s']:,.0f}"
        table.add_row(*rates, p50, p99, f"{run['lag_at_end']:,}", f"{run['caught_up_s']:.1f}")
    console.print(table)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench freshness", description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[10_000.0], help="events/s; several: one run for each")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which events are written")
    parser.add_argument("--interval", type=float, default=1.0, help="publish.interval_s")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    log = chosen_log(options, round(max(options.rate) * options.seconds))
    # What is asked is not of the scorer, which would take a share of the processors.
    overrides = [f"kafka.url={options.kafka!r}", f"publish.interval_s={options.interval}", "serving.enabled=false"]
    overrides += options.set
    settings, runs = load_settings(overrides=overrides, defaults=log.settings), []
    for number, rate in enumerate(options.rate):
        runs.append(measure(own_topics(settings, f"fresh{number}"), log, rate, options.seconds, console))
    show(runs, console)
    report = {"runs": runs, **runs[-1], "interval_s": options.interval}
    report |= {"data": log.source, "cores": os.cpu_count(), "versions": versions()}
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
