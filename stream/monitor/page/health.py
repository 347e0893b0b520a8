"""The pipeline's health, from what workers, learner and join leave in Redis, and from what a probe of Redis finds."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis

from state_store.refusals import is_weather, told
from state_store.resident import resident_bytes
from state_store.rollout import DamagedRolloutError, Rollout, RolloutStore
from state_store.states import fence_counts
from state_store.tasks import labels_by_task
from stream.checks.redis_memory import estimate_memory
from stream.monitor.page.findings import Findings
from stream.monitor.page.waits import ANSWER, RedisProbe, Waits, redis_missing
from stream.process.status import SILENT_S, LearnerStatus, read_status, read_workers, sample_lag
from stream.process.store import open_store
from stream.process.weather import Weather
from stream.settings import Settings

log = logging.getLogger("coldstream.monitor")

_MEMORY_EVERY_S = 10.0
"""How often it is estimated what takes Redis' memory."""


def rates(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of the join: feedback that met its impression, events too late, feedback without one, dead letters.

    >>> rates({"impressions": 8, "feedback": 2, "matched": 1, "orphan": 1, "late": 1, "malformed": 1})["dead_letter"]
    0.3
    """
    feedback, events = counts.get("feedback", 0), counts.get("impressions", 0) + counts.get("feedback", 0)
    dead = counts.get("malformed", 0) + counts.get("orphan", 0) + counts.get("late", 0)
    return {
        "hit": counts.get("matched", 0) / max(feedback, 1),
        "late": counts.get("late", 0) / max(events, 1),
        "orphan": counts.get("orphan", 0) / max(feedback, 1),
        "dead_letter": dead / max(events, 1),
    }


class Health:
    """Reads the reports.

    Args:
        settings: effective settings.
        client: Redis.
        folder: the learner's run folder, if it is within reach.
        weather: of this process.
    """

    def __init__(
        self, settings: Settings, client: redis.Redis, folder: Path | None = None, weather: Weather | None = None
    ) -> None:
        self._settings = settings
        self._client = client
        self._store = open_store(settings, client)
        self._partitions = range(settings.kafka.partitions)
        self._weather = weather or Weather(log)
        self._probe = RedisProbe(client, settings.redis.prefix, self._partitions, self._weather)
        self._bytes: int | None = None
        self._memory: dict[str, Any] | None = None
        self._memory_at = float("-inf")
        self._waits = Waits(folder, self._weather)
        self._findings = Findings(settings, client)
        self._known: tuple[dict[str, Any], LearnerStatus | None] = ({}, None)
        self._rollouts, self._rollout = RolloutStore(client, settings.redis.prefix), Rollout()
        self._fences: list[dict[bytes, bytes]] = [{}] * len(self._partitions)

    def read(self) -> dict[str, Any]:
        """Everything, as plain data; of a Redis that does not answer, what was read last; blocks."""
        now_ms = time.time_ns() // 1_000_000
        try:
            self._probe.look()
            self._read_reports()
        except redis.RedisError as exc:
            if not is_weather(exc):
                raise
            self._weather.failed(ANSWER, told(exc))
        else:
            self._weather.passed(ANSWER)
        return self._describe(now_ms)

    def _read_reports(self) -> None:
        workers = read_workers(self._client, self._settings.redis.prefix)
        self._fences = self._store.fences(self._partitions)
        self._known = workers, read_status(self._client, self._settings.redis.prefix)
        self._bytes = self._redis_bytes()
        if time.monotonic() - self._memory_at > _MEMORY_EVERY_S:
            self._memory, self._memory_at = self._redis_memory(), time.monotonic()
        try:
            self._rollout = self._rollouts.read()
        except DamagedRolloutError as exc:
            self._weather.failed("rollout", str(exc))
        else:
            self._weather.passed("rollout")

    def _describe(self, now_ms: int) -> dict[str, Any]:
        (workers, learner), fences = self._known, self._fences
        counts = fence_counts(fences)
        waits = self._waits.collect(workers, learner)
        unready = redis_missing(waits["waits"], now_ms)
        return {
            **waits,
            "findings": self._findings.read(counts),
            "time_ms": now_ms,
            "workers": workers,
            "learner": None if learner is None else msgspec.to_builtins(learner),
            "rollout": msgspec.to_builtins(self._rollout),
            "counts": counts,
            "tasks": labels_by_task(counts, self._settings.labels, self._settings.learned_tasks),
            "sample_lag": self._sample_lag(fences, learner),
            "rates": rates(counts),
            "outcomes": self._outcomes(workers),
            "redis_bytes": self._bytes,
            "redis_memory": self._memory,
            "monitor_bytes": resident_bytes(),
            "watermark_delay_s": self._watermark_delays(fences),
            "missing": unready + self._missing(now_ms, workers, None if learner is None else learner.time_ms),
        }

    def _sample_lag(self, fences: Sequence[Mapping[bytes, bytes]], learner: LearnerStatus | None) -> dict[str, int]:
        """How many samples the learner is behind; nothing before its first report."""
        if learner is None:
            return {}
        joined = sum(int(fence.get(b"seq", 0)) for fence in fences)
        return dict(msgspec.structs.asdict(sample_lag(joined, learner)))

    def _outcomes(self, workers: dict[str, Any]) -> dict[str, int]:
        """What the fence said to batches, summed over the workers that run."""
        total: Counter[str] = Counter()
        for report in workers.values():
            total.update(report.get("outcomes", {}))
        return dict(total)

    def _redis_bytes(self) -> int | None:
        """Memory of Redis, summed over a cluster's nodes; None if this user may not ask."""
        try:
            found: Any = self._client.info("memory")
        except redis.ResponseError:
            return None
        nodes = [found] if "used_memory" in found else list(found.values())
        return sum(int(node["used_memory"]) for node in nodes)

    def _redis_memory(self) -> dict[str, Any] | None:
        """What takes it, estimated from some of the keys; None if this user may not ask."""
        try:
            found = estimate_memory(self._store, len(self._partitions))
        except redis.ResponseError:
            return None
        each = {"user_bytes": found.user_bytes, "item_bytes": found.item_bytes}
        return {**msgspec.to_builtins(found), **each}

    def _watermark_delays(self, fences: Sequence[Mapping[bytes, bytes]]) -> dict[str, float]:
        """Partition -> by how much event time the watermark lies behind the newest event."""
        delays = {}
        for p, fence in zip(self._partitions, fences, strict=True):
            watermark = fence.get(b"watermark")
            tops = [fence.get(f"max_ts:{topic}".encode()) for topic in self._settings.topics]
            newest = [float(top) for top in tops if top is not None]
            if watermark is not None and newest:
                # In a quiet partition the watermark goes on by the clock, past the newest event.
                delays[str(p)] = max(0.0, (max(newest) - float(watermark)) / 1000)
        return delays

    def _missing(self, now_ms: int, workers: dict[str, Any], learner_ms: int | None) -> list[str]:
        """Why the pipeline is not ready; empty if it is."""
        missing = []
        owned = {p for report in workers.values() for p in report["partitions"]}
        unowned = sorted(set(self._partitions) - owned)
        if unowned:
            missing.append(f"no worker has partitions {unowned}; start one with `coldstream worker`")
        if learner_ms is None or now_ms - learner_ms > SILENT_S * 1000:
            missing.append("no learner has reported for 30 s; start one with `coldstream learner`")
        return missing
