"""What the pipeline waits for: what its roles tell, and what a probe of Redis finds, if that takes no reports."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis

from state_store.refusals import is_weather, told
from stream.process.status import LearnerStatus, read_folder_status
from stream.process.store import probe_writes
from stream.process.weather import Condition, Weather

ANSWER, WRITE = "answer", "write"
_PROBE_EVERY_S = 1.0
_OWN_STEPS = frozenset({ANSWER, WRITE})


class RedisProbe:
    """Finds out whether Redis answers, and takes writes.

    Args:
        client: Redis.
        prefix: of its keys.
        partitions: a key of each is written, as they may lie on different servers.
        weather: what it finds.
    """

    def __init__(self, client: redis.Redis, prefix: str, partitions: Sequence[int], weather: Weather) -> None:
        self._client = client
        self._prefix = prefix
        self._partitions = partitions
        self._weather = weather
        self._at = 0.0

    def look(self) -> None:
        """Write, unless that was done a moment ago.

        Raises:
            redis.RedisError: it does not even answer.
        """
        if time.monotonic() - self._at < _PROBE_EVERY_S:
            return
        self._at = time.monotonic()
        try:
            probe_writes(self._client, self._prefix, self._partitions)
        except redis.ResponseError as exc:
            if not is_weather(exc):
                raise
            self._weather.failed(WRITE, told(exc))
        else:
            self._weather.passed(WRITE)


class Waits:
    """Collects the conditions of all roles.

    Args:
        folder: the learner's run folder, if it is within reach.
        weather: of this process.
    """

    def __init__(self, folder: Path | None, weather: Weather) -> None:
        self._folder = folder
        self._weather = weather

    def collect(self, workers: Mapping[str, Any], learner: LearnerStatus | None) -> dict[str, Any]:
        """Who waits for what, longest first, and how long each step has waited in all, as plain data.

        Args:
            workers: name -> report.
            learner: its newest report.
        """
        waits, waited = [], []
        for role, name, conditions, seconds in self._told(workers, learner):
            waits += [{"role": role, "name": name, **condition} for condition in conditions]
            waited += [{"role": role, "name": name, "step": step, "seconds": s} for step, s in seconds.items()]
        return {"waits": sorted(waits, key=lambda wait: wait["since_ms"]), "waited": waited}

    def _told(
        self, workers: Mapping[str, Any], learner: LearnerStatus | None
    ) -> Iterable[tuple[str, str, list[dict[str, Any]], dict[str, float]]]:
        for name, report in workers.items():
            # Workers of an earlier version count there how often they waited for the learner.
            waits = report.get("waits")
            yield "worker", name, waits if isinstance(waits, list) else [], report.get("waited_s", {})
        waits, waited_s = self._of_learner(learner)
        yield "learner", "learner", [msgspec.structs.asdict(wait) for wait in waits], waited_s
        for role, own in (("redis", True), ("monitor", False)):
            mine = [msgspec.structs.asdict(c) for c in self._weather.conditions if (c.step in _OWN_STEPS) is own]
            seconds = {step: s for step, s in self._weather.waited_s.items() if (step in _OWN_STEPS) is own}
            yield role, role, mine, seconds

    def _of_learner(self, learner: LearnerStatus | None) -> tuple[list[Condition], dict[str, float]]:
        """Its report, or what it left in its run folder, if that is newer: Redis may take no reports."""
        left = read_folder_status(self._folder) if self._folder is not None else None
        if left is not None and (learner is None or left.time_ms > learner.time_ms):
            return left.waits, left.waited_s
        return (learner.waits, learner.waited_s) if learner is not None else ([], {})


def redis_missing(waits: Iterable[Mapping[str, Any]], now_ms: int) -> list[str]:
    """Why Redis keeps the pipeline from being ready, for whoever asks."""
    return [
        f"{wait['said']}; for {max(0, now_ms - wait['since_ms']) / 1000:.0f} s"
        for wait in waits
        if wait["role"] == "redis"
    ]


def answers(waits: Iterable[Mapping[str, Any]]) -> bool:
    """Whether Redis answers at all."""
    return not any(wait["role"] == "redis" and wait["step"] == ANSWER for wait in waits)
