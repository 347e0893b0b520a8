"""`coldstream bench pipeline`: end-to-end events/s beside the ingest-only and the learner-only rate, in one run.

Ingest only: a worker reads a log that is complete, and nobody learns. Learner only: a learner then trains on the outbox
that this left. End to end: the demo, with fresh servers. All three see the same replay; the slower of the first two is
the bottleneck of the third, as far as they do not share cores.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table
from turns import write_whole_log

from simulators.logs.log import Log
from simulators.pace import PaceSettings
from simulators.replay import Replay, ReplaySettings
from simulators.runs.demo import run_demo
from state_store.client import connect
from state_store.outbox import Outbox
from stream.command.doctor import versions
from stream.command.roles import Role, servers
from stream.process.status import read_status
from stream.process.store import open_store
from stream.settings import Settings, load_settings

_POLL_S = 0.02
_TIMEOUT_S = 900.0


def _time_until(count: Callable[[], int], target: int, role: Role) -> float:
    """Seconds from the first to the last of `target` units; start-up is not measured."""
    began, first, deadline = 0.0, 0, time.monotonic() + _TIMEOUT_S
    while True:
        done = count()
        now = time.monotonic()
        if done and not began:
            began, first = now, done
        if done >= target:
            # Scaled up by what was done before the clock started.
            return (now - began) * target / max(1, target - first)
        role.check()
        if now > deadline:
            raise TimeoutError(f"{done} of {target} after {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)


def apart(settings: Settings, log: Log, how: ReplaySettings, folder: Path) -> dict[str, float]:
    """Ingest-only and learner-only rates."""
    unbounded = msgspec.structs.replace(settings.worker, outbox_high_water=10**9)
    with servers(msgspec.structs.replace(settings, worker=unbounded)) as live:
        partitions = live.kafka.partitions
        num_events = write_whole_log(live, Replay(log, how, partitions, live.join, live.horizon_ms))
        client = connect(live.redis)
        store = open_store(live, client)
        outbox = Outbox(client, live.redis.prefix, partitions)

        def applied() -> int:
            return sum(o + 1 for p in range(partitions) for o in store.fence_offsets(p).values())

        def trained() -> int:
            status = read_status(client, live.redis.prefix)
            return status.num_trained if status else 0

        with Role("worker", live, folder) as worker:
            ingest_s = _time_until(applied, num_events, worker)
        num_samples = sum(outbox.sequences().values())
        with Role("learner", live, folder) as learner:
            learn_s = _time_until(trained, num_samples, learner)
    return {
        "ingest_events_per_s": round(num_events / ingest_s, 1),
        "learner_samples_per_s": round(num_samples / learn_s, 1),
        "learner_events_per_s": round(num_events / learn_s, 1),
    }


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench pipeline", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="rows replayed")
    parser.add_argument("--kafka", default="", help="HOST:PORT; default: an embedded broker")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    log = chosen_log(options, options.events)
    settings = load_settings(overrides=[f"kafka.url={options.kafka!r}"], defaults=log.settings)
    how = ReplaySettings(num_rows=options.events)
    with tempfile.TemporaryDirectory() as scratch:
        with console.status("ingest only, then learner only"):
            report: dict[str, Any] = apart(settings, log, how, Path(scratch) / "apart")
        console.print("end to end")
        summary = run_demo(settings, log, how, PaceSettings(in_flight=10_000), Path(scratch) / "whole", console)
    report["end_to_end_events_per_s"] = summary["events_per_second"]
    slower = min(report["ingest_events_per_s"], report["learner_events_per_s"])
    report["ratio"] = round(summary["events_per_second"] / slower, 3)
    report["bottleneck"] = "learner" if slower == report["learner_events_per_s"] else "ingest"
    report |= {"events": summary["events_produced"], "counts_match": summary["counts_match"]}
    report |= {"data": log.source, "cores": os.cpu_count(), "versions": versions()}
    table = Table(title="events/s (both topics)")
    table.add_column("part")
    table.add_column("events/s", justify="right")
    for part in ("ingest", "learner", "end_to_end"):
        table.add_row(part.replace("_", " "), f"{report[f'{part}_events_per_s']:,.0f}")
    console.print(table)
    console.print(f"bottleneck: {report['bottleneck']}; end to end runs at {report['ratio']:.0%} of it alone")
    if options.json:
        print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
