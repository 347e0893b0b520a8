"""`coldstream bench drift`: how soon an injected drift is flagged, and how soon the model is over it.

For each seed, a backtest without drift, and one for each share of users whose labels are inverted from an event on. In
a run without one no alarm should be raised; behind one, AUC by windows is compared with the run without it. With
`--decay SECTION.NAME=VALUE` all of it is done again with that setting, for a learner that can let what it has gathered
fade. Delays are counted in samples and events, so a run can be repeated.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from chosen_log import add_log_options, chosen_log
from quality.windows import by_impression, first_changed, recovery
from rich.console import Console
from rich.table import Table

from learner.config import LearnerSettings
from learner.fast.config import FastSettings
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from simulators.runs.run_backtest import run_backtest
from stream.command.doctor import versions
from stream.monitor.history.recorder import read_buckets
from stream.predictions.log import read_predictions
from stream.settings import load_settings

_WIDTH = 120
"""Of tables that go to a file."""
_FADING = ("decay", "half_life", "forget", "fade")


def run_of(
    log: Log, how: ReplaySettings, more: Sequence[str]
) -> tuple[dict[str, Any], pl.DataFrame, list[tuple[int, str]]]:
    """One run: how large it was, what was predicted of each impression, and its alarms with the samples before each.

    Args:
        log: what is replayed.
        how: how; its seed is the learner's, too.
        more: settings.
    """
    overrides = [f"learner.seed={how.seed}", "monitor.twin_share=0", *more]
    settings = load_settings(environment={}, overrides=overrides, defaults=log.settings)
    with tempfile.TemporaryDirectory() as folder:
        summary = run_backtest(settings, log, how, Path(folder))
        buckets = read_buckets(Path(folder))
        said = by_impression(read_predictions(Path(folder) / "predictions"))
    samples, told = 0, []
    for bucket in buckets:
        samples += round(bucket.num_samples)
        told += [(samples, alarm) for alarm in bucket.alarms]
    found = {"seed": how.seed, "share": how.drift_share, "events": summary["events_produced"], "samples": samples}
    return found, said, told


def alarms_after(told: Sequence[tuple[int, str]], begun: int, run: dict[str, Any]) -> dict[str, Any]:
    """Alarms of a run with a drift: by how many samples and events the first one came later.

    Args:
        told: samples before each alarm, and what it said.
        begun: samples before the drift.
        run: how large the run was.
    """
    after = [(place, alarm) for place, alarm in told if place > begun]
    found: dict[str, Any] = {"begun": begun, "alarms_before": len(told) - len(after), "alarms_after": len(after)}
    if after:
        place, alarm = after[0]
        delay = place - begun
        events = round(delay * run["events"] / run["samples"])
        found |= {"delay_samples": delay, "delay_events": events, "first": alarm}
    return found


def measure(log: Log, options: argparse.Namespace, decay: str, console: Console) -> list[dict[str, Any]]:
    """All runs with one setting of decay, or with none."""
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        calm = None
        for share in (0.0, *options.shares):
            how = ReplaySettings(
                num_rows=options.events, seed=seed, drift_at=options.at if share else 0, drift_share=share
            )
            with console.status(f"seed {seed}, {share:.0%} of the users {decay}"):
                run, said, told = run_of(log, how, [decay] if decay else [])
            run["decay"] = decay
            if calm is None:
                calm = said
                run["alarms"] = len(told)
            else:
                begun = first_changed(calm, said)
                run |= alarms_after(told, begun, run)
                run["recovery"] = recovery(calm, said, begun, options.window, options.within)
            console.print(run)
            found.append(run)
    return found


def fading_settings() -> list[str]:
    """Settings of the learner by which what it has gathered fades, if it has any."""
    return [
        f"{section}.{name}"
        for section, kind in (("fast", FastSettings), ("learner", LearnerSettings))
        for name in kind.__struct_fields__
        if any(word in name for word in _FADING)
    ]


def show(found: Sequence[dict[str, Any]], within: float, console: Console) -> None:
    """All runs, for people."""
    table = Table(title="drift")
    console.print(f"alarm, and AUC within {within} of that without a drift, so many samples after it", highlight=False)
    columns = (
        "seed",
        "inverted",
        "decay",
        "events",
        "alarms",
        "alarm after",
        "in events",
        "AUC back",
        "lowest",
        "last",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for run in found:
        alarms = run["alarms"] if "alarms" in run else run["alarms_before"] + run["alarms_after"]
        after = (f"{run[name]:,}" if name in run else "-" for name in ("delay_samples", "delay_events"))
        cells = ["-"] * 3
        if "recovery" in run:
            until, lowest, last = (run["recovery"][name] for name in ("samples_until_recovered", "lowest", "last"))
            cells = ["never" if until is None else f"{until:,}"]
            cells += ["-" if value is None else f"{value:+.4f}" for value in (lowest, last)]
        given = [str(run["seed"]), f"{run['share']:.0%}", run["decay"] or "none", f"{run['events']:,}", str(alarms)]
        table.add_row(*given, *after, *cells)
    console.print(table)


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench drift", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000, help="rows replayed per run")
    parser.add_argument("--at", type=int, default=400_000, help="event from which labels are inverted")
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 9, 10])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3], help="of users")
    parser.add_argument("--window", type=int, default=20_000, help="impressions whose AUC is compared")
    parser.add_argument("--within", type=float, default=0.005, help="of the AUC without a drift, to be over it")
    parser.add_argument("--decay", default="", metavar="SECTION.NAME=VALUE", help="run all of it with this, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)
    log = chosen_log(options, options.events)
    found, fading = measure(log, options, "", console), fading_settings()
    if options.decay:
        found += measure(log, options, options.decay, console)
    elif fading:
        console.print(f"without decay only; with it: --decay NAME=VALUE, where NAME is one of {', '.join(fading)}")
    else:
        console.print("without decay only: this learner has no setting by which what it has gathered fades")
    show(found, options.within, console)
    if options.json:
        report = {"runs": found, "fading_settings": fading, "window": options.window, "within": options.within}
        print(json.dumps(report | {"data": log.source, "cores": os.cpu_count(), "versions": versions()}))


if __name__ == "__main__":
    main(sys.argv[1:])
