"""Kill roles at random while a replay runs, then compare everything exact with the oracle.

What must hold: whatever is killed, whenever, the counters, the samples and the learner's trained samples end equal to
what an offline pass over the same log gives.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from learner.samples.kind import SampleKind
from simulators.encoding import LogEntry
from simulators.logs.log import Log
from simulators.oracle import Expected, expect
from simulators.replay import Replay, ReplaySettings
from simulators.runs.incidents import Incidents, is_applied
from simulators.runs.leaving import leave
from simulators.runs.log_writer import LogWriter
from simulators.runs.ranks import GroupDeaths
from simulators.runs.summary import COMPARED, differences
from state_store.client import connect
from state_store.embedded.child import free_port
from state_store.outbox import Outbox
from stream.command.roles import Role, wait_until
from stream.environment import FAILPOINT
from stream.monitor.figures.bootstrap import user_hashes
from stream.monitor.history.history import TWIN, HistoryReader
from stream.monitor.history.recorder import read_buckets
from stream.monitor.twin.feed import TwinFeedReader, in_share
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.process.failpoints import LEARNER_POINTS, MONITOR_POINTS, WORKER_POINTS
from stream.process.status import read_status
from stream.process.store import open_store
from stream.settings import Settings

_POLL_S = 0.05
_HANDFUL = 20
_STALLED_S = 180.0
_LEARNER_SHARE = 0.2
_MONITOR_SHARE = 0.2
"""Share of the deaths that the monitor goes along with."""
_TWIN_SHARE = 0.5
_INCIDENT_SHARE = 0.6


class ChaosSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is killed, and how."""

    kills: int = 20
    workers: int = 1
    """With more than one, one of them leaves each time: killed, by SIGTERM, or by standing still for about as long as
    its session lasts. The others take its partitions over, and it comes back at the next death, or by itself. Each
    makes two rebalances."""
    processes: int = 1
    """With more than one, the learner is a group of so many: one of them dies each time, from outside or in the middle
    of what it does (`simulators.runs.ranks`), and all start anew."""
    seed: int = 7
    failpoint_share: float = 0.5
    """Share of the deaths that happen at a failpoint; the others come from outside, at a random moment."""
    longest_pause_s: float = 2.0
    """Greatest time between a role's restart and the next kill."""
    last_wait_s: float = 20.0
    """Longest wait for an armed failpoint to be passed; after that the role is killed from outside."""
    weather: bool = False
    """Whether most deaths are incidents instead (`simulators.runs.incidents`): a store that says no, transactions,
    retention, a second learner, a full disk."""
    monitor: bool = True
    """Whether the monitor runs, dies, too, and must have scored each impression of the twin's share once."""


class Chaos:
    """One run on servers that are up.

    Args:
        settings: effective settings, with URLs.
        log: what is replayed.
        how: how.
        chaos: how much is killed.
        folder: run folder.
        on_apache: whether the broker is an Apache Kafka, of which more can be asked.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        how: ReplaySettings,
        chaos: ChaosSettings,
        folder: Path,
        *,
        on_apache: bool = False,
    ) -> None:
        monitor = msgspec.structs.replace(settings.monitor, twin_share=_TWIN_SHARE, port=free_port())
        learning = msgspec.structs.replace(settings.learner, processes=chaos.processes)
        settings = msgspec.structs.replace(settings, monitor=monitor, learner=learning)
        self._settings, self._chaos, self._folder = settings, chaos, folder
        self._replay = Replay(log, how, settings.kafka.partitions, settings.join, settings.horizon_ms)
        self._rng = random.Random(chaos.seed)
        self._monitor_rng = random.Random(chaos.seed + 1)
        self._client = connect(settings.redis)
        self._store = open_store(settings, self._client)
        self._outbox = Outbox(self._client, settings.redis.prefix, settings.kafka.partitions)
        self._partitions = range(settings.kafka.partitions)
        self.deaths: Counter[str] = Counter()
        self._rest: list[LogEntry] = []
        """Of a slice, what is written while a death at a failpoint is waited for, and behind that."""
        self._writer = LogWriter(settings, random.Random(chaos.seed + 2))
        self._incidents = (
            Incidents(settings, self._store, self._writer, self._rng, on_apache=on_apache) if chaos.weather else None
        )

    def run(self, on_progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Replay under fire; returns the report.

        Raises:
            OperatorError: the pipeline does not come to its end.
        """
        settings, join = self._settings, self._settings.join
        num_events, log = self._replay.count_events(), self._replay.whole_log()
        per_kill = -(-(num_events + 2 * len(self._partitions)) // (self._chaos.kills + 1))
        writer = self._writer
        started = time.monotonic()
        with ExitStack() as stack:
            learner = stack.enter_context(Role("learner", settings, self._folder))
            several = [self._folder / f"worker{n}" for n in range(self._chaos.workers)]
            folders = several if len(several) > 1 else [self._folder]
            workers = [stack.enter_context(Role("worker", settings, folder)) for folder in folders]
            monitor = Role("monitor", settings, self._folder)
            if self._chaos.monitor:
                stack.enter_context(monitor)
            for kill in range(self._chaos.kills):
                part = list(islice(log, per_kill))
                on_progress(f"kill {kill + 1} of {self._chaos.kills}, {writer.num_written:,} of {num_events:,} events")
                if self._incidents is not None and self._rng.random() < _INCIDENT_SHARE:
                    self.deaths[self._incidents.strike(part, workers[0], learner)] += 1
                    continue
                first, self._rest = part[: len(part) // 2], part[len(part) // 2 :]
                writer.plain(first)
                if len(workers) == 1:
                    self._kill(workers[0], learner)
                else:
                    self._rebalance(workers, learner)
                if self._chaos.monitor and self._monitor_rng.random() < _MONITOR_SHARE:
                    self._kill_monitor(monitor)
                writer.plain(self._rest)
            writer.plain(log)
            ends = writer.ends()
            on_progress("waiting for the end of the log")
            running = [role for role in (*workers, learner) if role.is_running]
            wait_until(lambda: self._is_done(ends), "the log to be learned", running, stalled_after_s=_STALLED_S)
            learner.stop()
            if self._chaos.monitor:
                # It may still wait for its failpoint, and would pass it now.
                monitor.kill()
                monitor.start()
                feed = TwinFeedReader(self._client, settings.redis.prefix, self._run_name)
                wait_until(lambda: not feed.waiting(), "the frozen twin", [monitor], progress=feed.waiting)
        expected = expect(writer.records, join, settings.actions, settings.tasks, settings.histories)
        return self._report(expected, writer.num_written, time.monotonic() - started)

    # Killing ----------------------------------------------------------------------------------------------------

    def _kill(self, worker: Role, learner: Role) -> None:
        """One death of the worker, the learner, or both."""
        victims: tuple[Role, ...] = self._rng.choice(((worker,), (learner,), (worker, learner)))
        time.sleep(self._rng.uniform(0, self._chaos.longest_pause_s))
        if self._chaos.processes > 1 and learner in victims:
            # Whoever keeps the group together starts it anew.
            self.deaths[self._group_deaths(learner).strike()] += 1
            victims = tuple(victim for victim in victims if victim is not learner)
        for victim in victims:
            if self._rng.random() < self._chaos.failpoint_share:
                self._die_at_failpoint(victim)
            else:
                victim.kill()
                self.deaths[f"{victim.name}: from outside"] += 1
        for victim in victims:
            victim.start()

    def _group_deaths(self, learner: Role) -> GroupDeaths:
        checkpoints, chaos = self._folder / "checkpoints", self._chaos
        return GroupDeaths(learner, checkpoints, self._rng, self._feed, chaos.failpoint_share, chaos.last_wait_s)

    def _feed(self) -> None:
        """Something to do for who is to die of it."""
        some, self._rest = self._rest[:_HANDFUL], self._rest[_HANDFUL:]
        self._writer.plain(some)

    def _kill_monitor(self, monitor: Role) -> None:
        """Kill the monitor, if it has not died at its failpoint meanwhile; maybe arm another one."""
        self.deaths["monitor: at a failpoint" if not monitor.is_running else "monitor: from outside"] += 1
        monitor.kill()
        if self._monitor_rng.random() < self._chaos.failpoint_share:
            monitor.start({FAILPOINT: f"{self._monitor_rng.choice(MONITOR_POINTS)}:{self._monitor_rng.randint(1, 3)}"})
        else:
            monitor.start()

    def _rebalance(self, workers: list[Role], learner: Role) -> None:
        """Whoever was away comes back, and one worker leaves; now and then the learner dies, too."""
        for worker in workers:
            if not worker.is_running:
                worker.start()
        time.sleep(self._rng.uniform(0, self._chaos.longest_pause_s))
        session_s = self._settings.worker.session_timeout_s
        self.deaths[f"worker: {leave(self._rng.choice(workers), session_s, self._rng)}"] += 1
        if self._rng.random() < _LEARNER_SHARE:
            learner.kill()
            learner.start()
            self.deaths["learner: from outside"] += 1

    def _die_at_failpoint(self, role: Role) -> None:
        """Restart a role with a failpoint armed, and wait until it has died of it."""
        point = self._rng.choice(WORKER_POINTS if role.name == "worker" else LEARNER_POINTS)
        role.kill()
        role.start({FAILPOINT: f"{point}:{self._rng.randint(1, 5)}"})
        deadline = time.monotonic() + self._chaos.last_wait_s
        while role.is_running and time.monotonic() < deadline:
            self._feed()
            time.sleep(_POLL_S)
        if role.is_running:
            # Nothing was left to do that passes the point: the log up to here is applied and learned.
            role.kill()
            point = "from outside"
        self.deaths[f"{role.name}: {point}"] += 1

    # The end ----------------------------------------------------------------------------------------------------

    def _is_done(self, ends: dict[tuple[int, int], int]) -> bool:
        if not is_applied(self._store, self._settings.topics, ends):
            return False
        status = read_status(self._client, self._settings.redis.prefix)
        sequences = self._outbox.sequences()
        return status is not None and all(status.cursor.get(str(p), 0) == sequences[p] for p in self._partitions)

    def _num_monitored(self) -> int:
        """Samples in the cohort figures, each of which is in one user cohort."""
        return round(sum(bucket.num_samples for bucket in read_buckets(self._folder)))

    @property
    def _run_name(self) -> str:
        return HistoryReader(self._client, self._settings.redis.prefix).runs()[-1]

    def _num_of_twin(self) -> int:
        """Impressions that the frozen twin has scored, or had no weights for."""
        buckets = HistoryReader(self._client, self._settings.redis.prefix).read(self._run_name, TWIN)
        return sum(bucket.unscored + round(bucket.num_samples) for bucket in buckets)

    def _labels(self, predictions: pl.DataFrame, task: int) -> dict[str, int]:
        """Impression id -> final label of a task, as the learner was told."""
        is_main = self._settings.labels[task].is_main
        return dict(matured(predictions, None if is_main else task).select("imp_id", "label").iter_rows())

    def _report(self, expected: Expected, num_events: int, seconds: float) -> dict[str, Any]:
        wrong = differences(self._store, len(self._partitions), expected)
        predictions = read_predictions(self._folder / "predictions")
        by_kind = Counter(predictions["kind"].to_list())
        final = matured(predictions)
        labels = {task.name: self._labels(predictions, n) for n, task in enumerate(self._settings.labels)}
        as_of = dict(zip(final["imp_id"].to_list(), final["user_impressions"].to_list(), strict=True))
        counts = self._store.fence_counts(self._partitions)
        totals = {name: [counts.get(name, 0), expected.counts[name]] for name in COMPARED}
        for kind in SampleKind:
            totals[f"trained_{kind.name.lower()}"] = [by_kind[int(kind)], expected.counts[kind.name.lower()]]
        checks = {
            "counters": not wrong,
            "one_base_sample_per_impression": len(final)
            == final["imp_id"].n_unique()
            == len(expected.user_impressions),
            "final_labels": labels == expected.labels,
            "user_impressions_as_of": as_of == expected.user_impressions,
            "monitored_samples": self._num_monitored() == len(final),
            "trained_samples": all(have == want for have, want in totals.values()),
            "lost_offsets": counts.get("gap", 0) == (self._incidents.num_lost if self._incidents is not None else 0),
        }
        if self._chaos.monitor:
            of_twin = sum(in_share(user, _TWIN_SHARE) for user in user_hashes(final["user_id"]))
            checks["twin_samples"] = self._num_of_twin() == of_twin
        return {
            "kills": sum(self.deaths.values()),
            "equal": all(checks.values()),
            "checks": checks,
            "totals": totals,
            "count_differences": dict(list(wrong.items())[:20]),
            "deaths": dict(sorted(self.deaths.items())),
            "events": num_events,
            "seconds": round(seconds, 1),
            "seed": self._chaos.seed,
        }
