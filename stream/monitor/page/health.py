"""The pipeline's health, from what workers, learner and join leave in Redis."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import redis

from state_store.resident import resident_bytes
from state_store.states import fence_counts
from state_store.tasks import labels_by_task
from stream.process.status import LearnerStatus, read_status, sample_lag
from stream.process.store import open_store
from stream.settings import Settings

_SILENT_MS = 30_000
"""A role that has not reported for this long counts as gone."""


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
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._store = open_store(settings, client)
        self._partitions = range(settings.kafka.partitions)

    def read(self) -> dict[str, Any]:
        """Everything, as plain data; blocks."""
        now_ms = time.time_ns() // 1_000_000
        reports: Any = self._client.hgetall(self._store.keys.worker_status)
        workers = {}
        for name, report in reports.items():
            found = msgspec.json.decode(report)
            if now_ms - found["time_ms"] < _SILENT_MS:
                workers[name.decode()] = found
        fences = self._store.fences(self._partitions)
        counts = fence_counts(fences)
        learner = read_status(self._client, self._settings.redis.prefix)
        return {
            "time_ms": now_ms,
            "workers": workers,
            "learner": None if learner is None else msgspec.to_builtins(learner),
            "counts": counts,
            "tasks": labels_by_task(counts, self._settings.labels),
            "sample_lag": self._sample_lag(fences, learner),
            "rates": rates(counts),
            "outcomes": self._outcomes(workers),
            "redis_bytes": self._redis_bytes(),
            "monitor_bytes": resident_bytes(),
            "watermark_delay_s": self._watermark_delays(fences),
            "missing": self._missing(now_ms, workers, None if learner is None else learner.time_ms),
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

    def _watermark_delays(self, fences: Sequence[Mapping[bytes, bytes]]) -> dict[str, float]:
        """Partition -> by how much event time the watermark lies behind the newest event."""
        delays = {}
        for p, fence in zip(self._partitions, fences, strict=True):
            watermark = fence.get(b"watermark")
            tops = [fence.get(f"max_ts:{topic}".encode()) for topic in self._settings.topics]
            newest = [float(top) for top in tops if top is not None]
            if watermark is not None and newest:
                delays[str(p)] = (max(newest) - float(watermark)) / 1000
        return delays

    def _missing(self, now_ms: int, workers: dict[str, Any], learner_ms: int | None) -> list[str]:
        """Why the pipeline is not ready; empty if it is."""
        missing = []
        owned = {p for report in workers.values() for p in report["partitions"]}
        unowned = sorted(set(self._partitions) - owned)
        if unowned:
            missing.append(f"no worker has partitions {unowned}; start one with `coldstream worker`")
        if learner_ms is None or now_ms - learner_ms > _SILENT_MS:
            missing.append("no learner has reported for 30 s; start one with `coldstream learner`")
        return missing
