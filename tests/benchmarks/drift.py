"""`coldstream bench drift`: how soon an injected drift is flagged, and whether a run without one raises an alarm.

For each seed, a backtest without drift, and one for each share of users whose labels are inverted from an event on.
Delays are counted in samples and events, so a run can be repeated.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table

from simulators.logs.log import Log
from simulators.replay import Replay, ReplaySettings
from simulators.runs.run_backtest import run_backtest
from stream.monitor.history.recorder import read_buckets
from stream.settings import load_settings


def alarms_of(log: Log, num_rows: int, seed: int, at: int, share: float) -> dict[str, Any]:
    """One run: its alarms, and for an injected drift, by how many samples and events the first one came later."""
    settings = load_settings(
        environment={}, overrides=[f"learner.seed={seed}", "monitor.twin_share=0"], defaults=log.settings
    )
    how = ReplaySettings(num_rows=num_rows, seed=seed, drift_at=at if share else 0, drift_share=share)
    replay = Replay(log, how, settings.kafka.partitions, settings.join)
    written = [entry.topic for entry in replay.entries()]
    with tempfile.TemporaryDirectory() as folder:
        run_backtest(settings, log, how, Path(folder))
        buckets = read_buckets(Path(folder))
    samples, told = 0, []
    for bucket in buckets:
        samples += round(bucket.num_samples)
        told += [(samples, said) for said in bucket.alarms]
    found: dict[str, Any] = {"seed": seed, "share": share, "events": len(written), "samples": samples}
    if not share:
        return {**found, "alarms": len(told)}
    # Topic 0 holds the impressions.
    begun = written[:at].count(0)
    after = [(place, said) for place, said in told if place > begun]
    found |= {"alarms_before": len(told) - len(after), "alarms_after": len(after)}
    if after:
        place, said = after[0]
        delay = place - begun
        found |= {"delay_samples": delay, "delay_events": round(delay * len(written) / samples), "first": said}
    return found


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench drift", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000, help="rows replayed per run")
    parser.add_argument("--at", type=int, default=400_000, help="event from which labels are inverted")
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 9, 10])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3], help="of users")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    log = chosen_log(options, options.events)
    found = []
    for seed in options.seeds:
        for share in (0.0, *options.shares):
            with console.status(f"seed {seed}, {share:.0%} of the users"):
                found.append(alarms_of(log, options.events, seed, options.at, share))
            console.print(found[-1])
    table = Table(title="drift")
    for column in ("seed", "users inverted", "events", "alarms", "first alarm after, samples", "events later"):
        table.add_column(column, justify="right")
    for run in found:
        alarms = run["alarms"] if "alarms" in run else run["alarms_before"] + run["alarms_after"]
        delays = (f"{run[name]:,}" if name in run else "-" for name in ("delay_samples", "delay_events"))
        table.add_row(str(run["seed"]), f"{run['share']:.0%}", f"{run['events']:,}", str(alarms), *delays)
    console.print(table)
    if options.json:
        print(json.dumps({"runs": found, "data": log.source}))


if __name__ == "__main__":
    main(sys.argv[1:])
