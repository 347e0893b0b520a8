"""How the pipeline itself fares, from what its roles leave in Redis."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import redis

from state_store.rollout import DamagedRolloutError, RolloutStore
from state_store.tasks import labels_by_task
from stream.checks.finding import Finding, bad, degraded, ok
from stream.process.status import LearnerStatus, read_status, read_workers
from stream.process.store import open_store
from stream.process.weather import Condition
from stream.settings import Settings

_LAG = 10_000
"""Records not applied, from which on it is told."""


def check_pipeline(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    """Counters, labels, what was lost or misplaced, what the roles wait for.

    Args:
        settings: effective settings.
        client: connected.
    """
    store = open_store(settings, client)
    counts = store.fence_counts(range(settings.kafka.partitions))
    main = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if ":" not in k)
    yield ok("state", main or "empty: nothing ingested yet")
    for row in labels_by_task(counts, settings.labels, settings.learned_tasks):
        yield _task(row)
    yield from check_counts(counts)
    workers = read_workers(client, settings.redis.prefix)
    for name, report in workers.items():
        yield from _worker(name, report)
    status = read_status(client, settings.redis.prefix)
    yield _weights(status, nothing_joined=not counts)
    yield from check_rollout(RolloutStore(client, settings.redis.prefix))
    if status is not None:
        yield from waits("learner", status.waits, time.time())


def check_counts(counts: Mapping[str, int]) -> Iterator[Finding]:
    """What the join's counters say of records that were lost or lie in the wrong place."""
    if gap := counts.get("gap", 0):
        yield degraded(
            "gaps", f"{gap} records were gone from the log before they were read; lengthen the topics' retention"
        )
    if cut := counts.get("cut", 0):
        yield degraded(
            "cut log",
            f"{cut} records that were applied are no longer in the log: an unclean leader election, or a restored "
            "backup; their counts stay",
        )
    if misplaced := counts.get("misplaced", 0):
        yield degraded(
            "misplaced",
            f"{misplaced} records lie in another partition than their user's: key records by user_id and let producers "
            "use Kafka's default partitioner (librdkafka: partitioner=murmur2_random); events.misplaced says what "
            "becomes of them",
        )


def _task(row: Mapping[str, Any]) -> Finding:
    share = "no label yet" if row["rate"] is None else f"{row['rate']:.1%} of the labels are positive"
    waiting = f", {row['waiting']} not known yet" if row["waiting"] else ""
    return ok(f"task {row['task']}", f"{share}{waiting}{'; learned' if row['learned'] else ''}")


def _worker(name: str, report: Mapping[str, Any]) -> Iterator[Finding]:
    lag = sum(report["lag"].values())
    said = f"partitions {report['partitions']}, {lag} records not applied yet"
    if lag > _LAG:
        yield degraded(f"worker {name}", f"{said}: start more workers, as many as there are partitions at most")
    else:
        yield ok(f"worker {name}", said)
    yield from waits(f"worker {name}", msgspec.convert(report.get("waits", []), list[Condition]), time.time())


def waits(role: str, conditions: Sequence[Condition], now_s: float) -> Iterator[Finding]:
    """What a role waits for.

    >>> next(waits("learner", [Condition("publish", "redis refuses (OOM): ...", 5000, 3)], 65.0)).detail
    'publish waits since 60 s, 3 attempts: redis refuses (OOM): ...'
    """
    for c in conditions:
        since = max(0.0, now_s - c.since_ms / 1000)
        yield degraded(role, f"{c.step} waits since {since:.0f} s, {c.attempts} attempts: {c.said}")


def check_rollout(rollouts: RolloutStore) -> Iterator[Finding]:
    """What people or judges have decided, where that keeps the newest weights from being served."""
    try:
        rollout = rollouts.read()
    except DamagedRolloutError as exc:
        yield bad("rollout", str(exc))
        return
    if rollout.pinned:
        yield degraded(
            "rollout", f"version {rollout.pinned} is pinned: {rollout.why_pinned}; `coldstream weights unpin`"
        )
    if rollout.hold:
        yield degraded("rollout", f"publishing is held: {rollout.hold}; `coldstream weights release`")
    if rollout.rewind is not None:
        yield degraded("rollout", f"the learner is asked to go back to checkpoint {rollout.rewind.checkpoint}")


def _weights(status: LearnerStatus | None, *, nothing_joined: bool) -> Finding:
    if status is None:
        said = "no learner has reported yet" + ("" if nothing_joined else "; start one with `coldstream learner`")
        return ok("weights", said) if nothing_joined else degraded("weights", said)
    if status.held_back:
        return degraded("weights", f"held back: {status.held_back}")
    if status.num_missed:
        said = (
            f"{status.num_missed} samples were trimmed before this learner saw them: it began with another run folder"
        )
        return degraded("weights", said)
    lost = f"; {status.num_not_again} were not learned again after going back" if status.num_not_again else ""
    return ok("weights", f"version {status.version}, {status.num_trained} samples learned{lost}")
