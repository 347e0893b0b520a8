"""The whole pipeline on a replay: producer -> Kafka -> Faust worker -> Redis -> learner -> weights -> scorer."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import redis
from rich.console import Console

from simulators.encoding import LogEntry
from simulators.log_reader import read_log
from simulators.logs.log import Log
from simulators.oracle import expect
from simulators.pace import PaceSettings
from simulators.producer import ReplayProducer
from simulators.replay import Replay, ReplaySettings
from simulators.runs.lags import Lags, in_flight
from simulators.runs.summary import build_summary
from state_store.client import connect
from state_store.embedded.child import port_or_free
from state_store.outbox import Outbox
from state_store.weights import Manifest, WeightStore
from stream.command.display import Display
from stream.command.roles import Role, StalledError, servers, wait_until
from stream.monitor.access.hosts import page_url
from stream.process.status import LearnerStatus, read_status, read_workers
from stream.process.store import open_store
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings

_CANDIDATES = 100
"""Items that are ranked at the end."""
_SHOW_EVERY_S = 0.5


def _opened(entries: Iterator[LogEntry]) -> Iterator[LogEntry]:
    """The same entries, of which the first is there already: before it comes, a log is found, read and put in order."""
    return chain(list(islice(entries, 1)), entries)


class Demo:
    """One run of the pipeline on servers that are up.

    Args:
        settings: effective settings, with URLs.
        log: what is replayed.
        how: how.
        pace: how fast.
        folder: run folder.
        console: where progress is shown.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        how: ReplaySettings,
        pace: PaceSettings,
        folder: Path,
        console: Console,
    ) -> None:
        self._settings = settings
        self._log = log
        self._how = how
        self._pace = pace
        self._folder = folder
        self._console = console
        self._client = connect(settings.redis)
        self._store = open_store(settings, self._client)
        self._outbox = Outbox(self._client, settings.redis.prefix, settings.kafka.partitions)
        self._partitions = range(settings.kafka.partitions)
        self._lags = Lags()

    def run(self) -> dict[str, Any]:
        """Replay, wait until everything is learned and published, check against the oracle; returns the summary.

        Raises:
            OperatorError: a role died, or nothing moves any more.
        """
        settings = self._settings
        replay = Replay(self._log, self._how, settings.kafka.partitions, settings.join, settings.horizon_ms)
        entries = _opened(replay.whole_log())
        with (
            Role("worker", settings, self._folder) as worker,
            Role("learner", settings, self._folder) as learner,
            self._watched() as monitor,
        ):
            roles = (worker, learner)
            self._wait_until_ready(worker, learner, monitor)
            producer = ReplayProducer(settings.kafka, self._pace, self._in_flight)
            with Display(settings, self._client, self._console) as display:
                started = time.monotonic()
                self._write(producer, entries, display, roles)
                ends = producer.end_offsets()
                self._wait_until_learned(ends, display, producer.num_sent, roles)
                seconds = time.monotonic() - started
                self._wait_until_published(roles)
                published_after = time.monotonic() - started - seconds
                display.refresh(producer.num_sent)
            producer.close()
            learner.stop()
            manifest, status = WeightStore(self._client, settings.redis.prefix).latest(), self._status()
        assert manifest is not None
        log = read_log(settings.kafka, ends)
        expected = expect(log, settings.join, settings.actions, settings.tasks, settings.histories)
        run = {
            "run": self._folder.name,
            "data": self._log.source,
            "log": self._log.name,
            "events_produced": producer.num_sent,
            "weights_version": manifest.version,
            "events_per_second": round(producer.num_sent / seconds, 1),
            "impressions_per_second": round(replay.num_rows / seconds, 1),
            "seconds": round(seconds, 2),
            "published_after_seconds": round(published_after, 2),
            "lag_samples": self._lags.summary(),
            "freshness_seconds": {"p50": status.freshness_p50_s, "p99": status.freshness_p99_s},
            "seed": self._how.seed,
            "rows": replay.num_rows,
            "replay": msgspec.to_builtins(self._how),
            "pace": msgspec.to_builtins(self._pace),
            "scorer": self._try_scorer(manifest, replay),
        }
        return build_summary(settings, self._store, self._folder, expected, run)

    @contextmanager
    def _watched(self) -> Iterator[Role | None]:
        """Monitor and scorer beside the run, unless they are turned off; nothing hangs on them. Yields the monitor."""
        monitor, serving, watch = self._settings.monitor, self._settings.serving, None
        with ExitStack() as stack:
            if monitor.enabled:
                monitor = msgspec.structs.replace(monitor, port=port_or_free(monitor.host, monitor.port))
                settings = msgspec.structs.replace(self._settings, monitor=monitor)
                watch = stack.enter_context(Role("monitor", settings, self._folder))
                self._console.print(f"monitor: {page_url(monitor)} while this runs")
            if serving.enabled:
                serving = msgspec.structs.replace(serving, port=port_or_free(serving.host, serving.port))
                stack.enter_context(
                    Role("serve", msgspec.structs.replace(self._settings, serving=serving), self._folder)
                )
                self._console.print(f"scorer: {serving_url(serving)} while this runs")
            yield watch

    # Steps ------------------------------------------------------------------------------------------------------

    def _wait_until_ready(self, worker: Role, learner: Role, monitor: Role | None) -> None:
        """Both roles have reported, the worker owns every partition, and the monitor serves, or has ended."""
        status = self._console.status("starting worker and learner")
        with status:
            self._wait(
                lambda: self._owned() >= set(self._partitions) and read_status(self._client, self._prefix) is not None,
                (worker, learner),
                "the worker to join its group and the learner to start",
            )
            if monitor is not None:
                log = monitor.log
                self._wait(
                    lambda: not monitor.is_running or "http://" in log.read_text(encoding="utf-8"),
                    (),
                    "the monitor to start",
                )

    def _owned(self) -> set[int]:
        return {p for report in read_workers(self._client, self._prefix).values() for p in report["partitions"]}

    def _write(
        self, producer: ReplayProducer, entries: Iterator[LogEntry], display: Display, roles: tuple[Role, ...]
    ) -> None:
        last_shown = 0.0

        def progress(sent: int) -> None:
            nonlocal last_shown
            if time.monotonic() - last_shown > _SHOW_EVERY_S:
                last_shown = time.monotonic()
                display.refresh(sent)
                self._lags.note(self._outbox, read_status(self._client, self._prefix))
                for role in roles:
                    role.check()

        producer.write(entries, progress)

    def _in_flight(self, sent: int) -> int:
        return in_flight(sent, self._store, self._outbox)

    def _wait_until_learned(
        self, ends: dict[tuple[int, int], int], display: Display, sent: int, roles: tuple[Role, ...]
    ) -> None:
        """Every record applied, and every sample learned."""
        topics, last_shown = self._settings.topics, 0.0

        def done() -> bool:
            nonlocal last_shown
            if time.monotonic() - last_shown > _SHOW_EVERY_S:
                last_shown = time.monotonic()
                display.refresh(sent)
            offsets = self._store.fence_offsets(self._partitions)
            if any(offsets[p][topics[t]] < end for (t, p), end in ends.items()):
                return False
            return self._outbox.learned() == self._outbox.sequences()

        self._wait(done, roles, "every event to be learned from")

    def _wait_until_published(self, roles: tuple[Role, ...]) -> None:
        """Weights are in force that learned from every sample."""

        def done() -> bool:
            manifest = WeightStore(self._client, self._prefix).latest()
            sequences = self._outbox.sequences()
            return manifest is not None and all(
                manifest.learned.get(str(p), 0) == sequences[p] for p in self._partitions
            )

        self._wait(done, roles, "weights that learned from every event")

    def _wait(self, done: Callable[[], bool], roles: tuple[Role, ...], what: str) -> None:
        wait_until(done, what, roles, progress=self._progress)

    def _progress(self) -> tuple[object, ...]:
        status = read_status(self._client, self._prefix)
        offsets = self._store.fence_offsets(self._partitions)
        return status.num_trained if status else -1, status.version if status else -1, str(offsets)

    def _status(self) -> LearnerStatus:
        status = read_status(self._client, self._prefix)
        assert status is not None
        return status

    @property
    def _prefix(self) -> str:
        return self._settings.redis.prefix

    def _try_scorer(self, manifest: Manifest, replay: Replay) -> dict[str, Any]:
        """Load the newest weights as a server would, and rank the last items of the replay for its last user."""
        scorer = Scorer(self._settings, self._client)
        scorer.refresh()
        rows, log = replay.tail, self._log
        user_id, now_ms = rows["user_id"][-1], rows["ts"][-1]
        items = rows["item_id"].reverse().unique(maintain_order=True).head(_CANDIDATES)
        candidates = [Candidate(item_id, dict(log.items.get(item_id, now_ms))) for item_id in items]
        started = time.perf_counter()
        scores = scorer.score(user_id, dict(log.users.get(user_id, now_ms)), candidates, ts=now_ms)
        seconds = time.perf_counter() - started
        best = sorted(zip(scores.tolist(), (c.item_id for c in candidates), strict=True), reverse=True)[:5]
        return {
            "version": manifest.version,
            "user_id": user_id,
            "candidates": len(candidates),
            "milliseconds": round(seconds * 1000, 2),
            "best": [{"item_id": item_id, "score": round(score, 4)} for score, item_id in best],
        }


def run_demo(
    settings: Settings, log: Log, how: ReplaySettings, pace: PaceSettings, folder: Path, console: Console
) -> dict[str, Any]:
    """Start what is missing, run, write `summary.json`; returns the summary."""
    with servers(settings) as live:
        try:
            summary = Demo(live, log, how, pace, folder, console).run()
        except redis.ConnectionError as exc:
            raise StalledError(f"redis went away during the run ({exc}); see the logs in {folder}") from exc
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2))
    return summary
