"""What the roles report of themselves: in Redis for whoever watches, and in the run folder for whoever has no Redis."""

import time
from pathlib import Path
from typing import Any

import msgspec
import redis

from learner.files import passes, write_whole
from learner.sif.usage import CodeUsage
from state_store.keys import Keys
from stream.process.folder_lock import Holder, this_process
from stream.process.weather import Condition, Weather

_STATUS_FILE = "status.json"
_EVERY_S = 5.0
SILENT_S = 30.0
"""A role that has not reported for this long counts as gone."""


class CanaryStatus(msgspec.Struct, frozen=True):
    """How far the canary's trial is."""

    outcomes: int
    wanted: int
    """Outcomes without harm that promote the candidate."""
    limit: float
    """Evidence at which it is harm."""
    evidence: dict[str, float]
    """By what is harm; logarithm of the odds that a gambler has won by betting on it."""


class LearnerStatus(msgspec.Struct, frozen=True):
    """The learner's progress, as it stands in Redis for whoever watches; a figure not known yet is None."""

    time_ms: int
    num_trained: int
    num_by_kind: list[int]
    cursor: dict[str, int]
    version: int
    published_ms: int
    held_back: str
    auc: float | None
    log_loss: float | None
    calibration: float | None
    freshness_p50_s: float | None
    freshness_p99_s: float | None
    rows: int
    num_missed: int = 0
    num_not_again: int = 0
    """Samples learned before the learner went back, and trimmed since: it cannot learn them again."""
    num_ageless: int = 0
    """Samples whose record did not say when it was written, or senselessly."""
    resident_bytes: int = 0
    step_s: float = 0.0
    """Mean duration of the steps since the last report."""
    step_max_s: float = 0.0
    """The longest of them."""
    num_at_norms: int = 0
    """Samples learned when the norms in the state were written last."""
    checkpoint_stop_ms: float = 0.0
    """How long training stood still for the last checkpoint."""
    checkpoint_bytes: int = 0
    """What the last one wrote of the model."""
    waits: list[Condition] = []
    """What holds it up now."""
    waited_s: dict[str, float] = {}
    """Step -> seconds that it has waited so far."""
    canary: CanaryStatus | None = None
    """None without `serving.canary_share`."""
    codes: CodeUsage | None = None
    """None where no samples are encoded."""


class SampleLag(msgspec.Struct, frozen=True):
    """How many samples the learner is behind."""

    learner: int
    """Joined, and not learned."""
    norms: int
    """Joined since the embedding norms in the state were written."""


def sample_lag(num_joined: int, status: LearnerStatus) -> SampleLag:
    """The lag in samples.

    Args:
        num_joined: samples that the join has made so far.
        status: the learner's newest report.
    """
    waiting = max(0, num_joined - sum(status.cursor.values()))
    return SampleLag(waiting, waiting + status.num_trained - status.num_at_norms)


def read_status(client: redis.Redis, prefix: str) -> LearnerStatus | None:
    """The learner's newest report."""
    found = client.get(Keys(prefix).learner_status)
    return msgspec.json.decode(found, type=LearnerStatus, strict=False) if found is not None else None


class FolderStatus(msgspec.Struct, frozen=True):
    """What a role that Redis takes no report from leaves in its run folder."""

    time_ms: int
    process: Holder
    waits: list[Condition]
    waited_s: dict[str, float]


class StatusFile:
    """Keeps `status.json` in the run folder, while there is anything to tell.

    Args:
        folder: run folder.
        weather: what is told.
    """

    def __init__(self, folder: Path, weather: Weather) -> None:
        self._path = folder / _STATUS_FILE
        self._weather = weather
        self._told: list[str] | None = None
        self._at = 0.0

    def keep(self) -> None:
        """Write it anew if something began, ended, or still lasts after a while; a disk that refuses is no matter."""
        waits = self._weather.conditions
        steps = [condition.step for condition in waits]
        if steps == self._told and not (steps and time.monotonic() - self._at > _EVERY_S):
            return
        self._told, self._at = steps, time.monotonic()
        status = FolderStatus(time.time_ns() // 1_000_000, this_process(), waits, self._weather.waited_s)
        try:
            write_whole(self._path, [msgspec.json.encode(status)])
        except OSError as exc:
            if not passes(exc):
                raise


def read_folder_status(folder: Path) -> FolderStatus | None:
    """What the learner of a run folder waits for, or waited for last; None if it never did."""
    try:
        return msgspec.json.decode((folder / _STATUS_FILE).read_bytes(), type=FolderStatus)
    except FileNotFoundError:
        return None


def read_workers(client: redis.Redis, prefix: str, within_s: float = SILENT_S) -> dict[str, dict[str, Any]]:
    """The workers' newest reports by name, as plain data, of those that reported within some time."""
    found: Any = client.hgetall(Keys(prefix).worker_status)
    reports = {name.decode(): msgspec.json.decode(report) for name, report in sorted(found.items())}
    return {name: r for name, r in reports.items() if time.time() - r["time_ms"] / 1000 < within_s}
