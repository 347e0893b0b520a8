"""What the roles report of themselves, as it stands in Redis for whoever watches."""

import msgspec
import redis

from state_store.keys import Keys


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
    resident_bytes: int = 0
    step_s: float = 0.0
    """Mean duration of the steps since the last report."""
    step_max_s: float = 0.0
    """The longest of them."""
    num_at_norms: int = 0
    """Samples learned when the norms in the state were written last."""


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
