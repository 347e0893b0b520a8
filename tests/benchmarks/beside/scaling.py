"""How many events N workers apply on one Redis, or on a cluster of three masters.

A cell of the table is a new broker, a new Redis and N worker processes in one consumer group. They share the partitions
out while the topics are empty; then all are stopped, the log is written, and all go on at once: neither their start nor
the writing is timed. Nobody learns. At the end every counter must be what the oracle makes of the log.
"""

import argparse
import os
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
from beside.flavours import Flavour, running
from beside.running import time_until
from beside.turns import cpu_s
from chosen_log import chosen_log, own_topics
from rich.console import Console
from rich.table import Table

from simulators.log_reader import read_log
from simulators.logs.log import Log
from simulators.oracle import Expected, expect
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from simulators.runs.summary import differences
from state_store.client import connect
from state_store.errors import OperatorError
from stream.command.doctor import versions
from stream.command.roles import Role, wait_until
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics
from stream.process.status import read_workers
from stream.process.store import open_store
from stream.settings import Settings, load_settings

_SESSION_S = 30.0
"""Workers that are stopped while the log is written must not be missed by the broker."""
_LOOK_S = 0.5
_SETTLED_S = 2.0
"""Nobody has joined for so long: the partitions stay where they are."""
_LEFT_S = 60.0
"""Longest time in which what is due behind the last record is handled."""


class Cell:
    """One row of the table.

    Args:
        settings: with URLs, and topics that nobody has written to.
        servers: Redis.
        broker: if it was started for this.
        folder: of the workers' logs.
    """

    def __init__(self, settings: Settings, servers: Flavour, broker: EmbeddedBroker | None, folder: Path) -> None:
        self._settings, self._servers, self._broker, self._folder = settings, servers, broker, folder
        self._client = connect(settings.redis)
        self._store = open_store(settings, self._client)
        self._partitions = range(settings.kafka.partitions)

    def run(self, log: Log, how: ReplaySettings, num_workers: int, checked: "Oracle") -> dict[str, Any]:
        """Measure, and count again.

        Args:
            log: what is replayed.
            how: its faults.
            num_workers: N.
            checked: knows what must come of it.
        """
        settings = self._settings
        with ExitStack() as stack:
            workers = [stack.enter_context(Role("worker", settings, self._folder / str(n))) for n in range(num_workers)]
            shares = self._shared_out(workers)
            with _stopped(workers):
                ends = _write(settings, log, how)
            num_events = sum(end + 1 for end in ends.values())
            before = self._cpu_s(workers)
            seconds = time_until(self._applied, num_events, workers)
            cpu_us = {name: (spent - before[name]) / num_events * 1e6 for name, spent in self._cpu_s(workers).items()}
            wrong = self._wrong(checked.of(settings, ends))
        return {
            "workers": num_workers,
            "masters": len(self._servers.nodes),
            "events": num_events,
            "events_per_s": round(num_events / seconds, 1),
            "cpu_us_per_event": _by_kind(cpu_us),
            "partitions_by_worker": shares,
            "partitions_by_master": self._by_master(),
            "counts_match": not wrong,
            "count_differences": dict(list(wrong.items())[:20]),
        }

    def _shared_out(self, workers: Sequence[Role]) -> list[int]:
        """Wait until every worker has its partitions; how many each has."""

        def shares() -> list[list[int]]:
            return [list(report["partitions"]) for report in read_workers(self._client, self._prefix).values()]

        def is_shared_out() -> bool:
            owned = sorted(p for share in shares() for p in share)
            return len(shares()) == len(workers) and all(shares()) and owned == list(self._partitions)

        wait_until(is_shared_out, "the workers to share the partitions out", workers)
        time.sleep(_SETTLED_S)
        wait_until(is_shared_out, "the workers to share the partitions out", workers)
        return sorted(map(len, shares()), reverse=True)

    @property
    def _prefix(self) -> str:
        return self._settings.redis.prefix

    def _applied(self) -> int:
        return sum(o + 1 for of in self._store.fence_offsets(self._partitions).values() for o in of.values())

    def _cpu_s(self, workers: Sequence[Role]) -> dict[str, float]:
        """By process."""
        found = {f"worker {n}": worker.pid for n, worker in enumerate(workers)}
        found |= {f"redis {n}": pid for n, pid in enumerate(self._servers.pids)}
        if self._broker is not None:
            found["broker"] = self._broker.pid
        return {name: cpu_s(psutil.Process(pid)) for name, pid in found.items()}

    def _by_master(self) -> list[int]:
        """How many partitions each master has."""
        shares = Counter(self._servers.port_of(self._store.keys.fence(p)) for p in self._partitions)
        return sorted(shares.values(), reverse=True)

    def _wrong(self, expected: Expected) -> dict[str, Any]:
        """What Redis has counted otherwise, once all that was due has been handled; empty: nothing."""
        until = time.monotonic() + _LEFT_S
        while (found := differences(self._store, len(self._partitions), expected)) and time.monotonic() < until:
            time.sleep(_LOOK_S)
        return found


class Oracle:
    """What must come of the log, which is the same in every cell: counted once."""

    def __init__(self) -> None:
        self._known: tuple[dict[tuple[int, int], int], Expected] | None = None

    def of(self, settings: Settings, ends: dict[tuple[int, int], int]) -> Expected:
        """The totals.

        Args:
            settings: with the broker that has the log.
            ends: last offset by topic and partition.
        """
        if self._known is None or self._known[0] != ends:
            records = read_log(settings.kafka, ends)
            self._known = ends, expect(records, settings.join, settings.actions, settings.tasks, settings.histories)
        return self._known[1]


@contextmanager
def _stopped(roles: Sequence[Role]) -> Iterator[None]:
    """Nobody works; the broker is not told, and must not find out by itself."""
    began = time.monotonic()
    for role in roles:
        os.kill(role.pid, signal.SIGSTOP)
    try:
        yield
        if time.monotonic() - began > _SESSION_S / 2:
            raise OperatorError(
                f"writing the log took more than {_SESSION_S / 2:.0f} s, after which the broker may give the stopped "
                "workers up: ask for fewer --events"
            )
    finally:
        for role in roles:
            os.kill(role.pid, signal.SIGCONT)


def _write(settings: Settings, log: Log, how: ReplaySettings) -> dict[tuple[int, int], int]:
    """The whole replay; last offset by topic and partition."""
    producer = ReplayProducer(settings.kafka, PaceSettings())
    producer.write(Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms).whole_log())
    ends = producer.end_offsets()
    producer.close()
    return ends


def _by_kind(cpu_us: Mapping[str, float]) -> dict[str, float]:
    """All processes of a kind together, and of several masters the one that works most."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, spent in cpu_us.items():
        found[name.split()[0]] += spent
    found["busiest redis"] = max(spent for name, spent in cpu_us.items() if name.startswith("redis"))
    return {name: round(spent, 2) for name, spent in found.items()}


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Every cell of the table, one after the other."""
    log = chosen_log(options, options.events)
    overrides = [
        f"kafka.partitions={options.partitions}",
        f"worker.session_timeout_s={_SESSION_S}",
        "worker.outbox_high_water=1000000000",
        "worker.idle_after_ms=0",
        "redis.timeout_s=60",
        "serving.enabled=false",
    ]
    settings = load_settings(overrides=overrides, defaults=log.settings)
    how, oracle, rows = ReplaySettings(num_rows=options.events), Oracle(), list[dict[str, Any]]()
    for num_masters in options.masters:
        for num_workers in options.workers:
            said = f"{num_workers} workers, {num_masters} masters"
            with ExitStack() as stack:
                stack.enter_context(console.status(said))
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                servers = stack.enter_context(running(num_masters, folder / "redis", options.server))
                broker = None if options.kafka else stack.enter_context(EmbeddedBroker())
                live = _with_urls(settings, servers.url, options.kafka if broker is None else broker.url)
                live = own_topics(live, f"{num_workers}-{num_masters}")
                ensure_topics(live.kafka)
                rows.append(Cell(live, servers, broker, folder).run(log, how, num_workers, oracle))
                version = servers.version
            console.print(f"{said}: {rows[-1]['events_per_s']:,.0f} events/s")
    return {
        "cells": rows,
        "counts_match": all(row["counts_match"] for row in rows),
        "partitions": options.partitions,
        "redis": version,
        "data": log.source,
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def _with_urls(settings: Settings, redis_url: str, kafka_url: str) -> Settings:
    replaced = msgspec.structs.replace
    kafka, state = replaced(settings.kafka, url=kafka_url), replaced(settings.redis, url=redis_url)
    return replaced(settings, kafka=kafka, redis=state)


def show(report: Mapping[str, Any], console: Console) -> None:
    """The table, for people."""
    cells = report["cells"]
    title = f"{report['partitions']} partitions, {report['redis']}, nobody learns; by process CPU us per event"
    table = Table(title=title)
    kinds = list(cells[0]["cpu_us_per_event"])
    columns = ("workers", "masters", "events/s", "times the first", *kinds, "counts")
    for column in columns:
        table.add_column(column, justify="right")
    for cell in cells:
        cpu = [f"{cell['cpu_us_per_event'][kind]:.1f}" for kind in kinds]
        ratio = cell["events_per_s"] / cells[0]["events_per_s"]
        counts = "match" if cell["counts_match"] else "DIFFER"
        table.add_row(
            str(cell["workers"]), str(cell["masters"]), f"{cell['events_per_s']:,.0f}", f"{ratio:.2f}", *cpu, counts
        )
    console.print(table)
