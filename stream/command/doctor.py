"""`coldstream doctor`: what is there, what is missing, in plain words."""

import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import redis

from state_store.client import connect, masked_url
from state_store.embedded.redis import find_redis_server
from state_store.errors import OperatorError
from stream.kafka.broker import find_tansu
from stream.kafka.topics import describe_topics
from stream.monitor.page.health import labels_by_task
from stream.process.status import LearnerStatus, read_status
from stream.process.store import open_store
from stream.settings import Settings

PACKAGES = (
    "torch",
    "faust-streaming",
    "mode-streaming",
    "aiokafka",
    "kafka-python",
    "confluent-kafka",
    "redis",
    "hiredis",
    "msgspec",
    "safetensors",
    "polars",
    "river",
    "numpy",
)


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    subject: str
    ok: bool
    detail: str


def versions() -> dict[str, str]:
    """Versions of Python and of what the pipeline stands on."""
    found = {"python": platform.python_version()}
    for package in ("coldstream", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def examine(settings: Settings) -> Iterator[Finding]:
    """Check packages, Redis, broker, topics, state and weights, in that order."""
    found = versions()
    missing = [name for name, v in found.items() if v == "missing"]
    yield Finding(
        "packages",
        not missing,
        f"missing: {missing}"
        if missing
        else f"torch {found['torch']}, "
        f"faust-streaming {found['faust-streaming']}, kafka-python {found['kafka-python']}, redis {found['redis']}",
    )
    if not settings.redis.url:
        yield _embedded("redis", find_redis_server)
    else:
        yield from _redis(settings)
    if not settings.kafka.url:
        yield _embedded("kafka", find_tansu)
    else:
        yield from _kafka(settings)


def _embedded(name: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, f"no URL given; the embedded one is {find()}")
    except OperatorError as exc:
        return Finding(name, False, str(exc))


def _eviction(client: redis.Redis) -> Finding:
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.ResponseError as exc:
        return Finding("redis eviction", True, f"cannot be read here ({exc}); make sure that it is noeviction")
    if policy == "noeviction":
        return Finding("redis eviction", True, "maxmemory-policy is noeviction")
    said = f"maxmemory-policy is {policy}: Redis would drop counters and samples when full; set noeviction"
    return Finding("redis eviction", False, said)


def _redis(settings: Settings) -> Iterator[Finding]:
    try:
        client = connect(settings.redis)
    except OperatorError as exc:
        yield Finding("redis", False, str(exc))
        return
    number = client.info("server")["redis_version"]
    new_enough = tuple(int(x) for x in str(number).split(".")[:2]) >= (6, 2)
    yield Finding(
        "redis", new_enough, f"{masked_url(settings.redis.url)} answers, version {number} (6.2 or newer needed)"
    )
    yield _eviction(client)
    store = open_store(settings, client)
    counts = store.fence_counts(range(settings.kafka.partitions))
    yield Finding(
        "state",
        True,
        ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if ":" not in k) or "empty: nothing ingested yet",
    )
    for row in labels_by_task(counts, settings.labels):
        yield _task(row)
    gap = counts.get("gap", 0)
    if gap:
        yield Finding(
            "gaps", False, f"{gap} records were gone from the log before they were read; lengthen its retention"
        )
    yield _weights(read_status(client, settings.redis.prefix), nothing_joined=not counts)


def _task(row: Mapping[str, Any]) -> Finding:
    share = "no label yet" if row["rate"] is None else f"{row['rate']:.1%} of the labels are positive"
    waiting = f", {row['waiting']} not known yet" if row["waiting"] else ""
    return Finding(f"task {row['task']}", True, f"{share}{waiting}{'; learned' if row['learned'] else ''}")


def _weights(status: LearnerStatus | None, *, nothing_joined: bool) -> Finding:
    if status is None:
        said = "no learner has reported yet" + ("" if nothing_joined else "; start one with `coldstream learner`")
        return Finding("weights", nothing_joined, said)
    if status.held_back:
        return Finding("weights", False, f"held back: {status.held_back}")
    if status.num_missed:
        said = (
            f"{status.num_missed} samples were trimmed before this learner saw them: it began with another run folder"
        )
        return Finding("weights", False, said)
    return Finding("weights", True, f"version {status.version}, {status.num_trained} samples learned")


def _kafka(settings: Settings) -> Iterator[Finding]:
    try:
        topics = describe_topics(settings.kafka)
    except OperatorError as exc:
        yield Finding("kafka", False, str(exc))
        return
    yield Finding("kafka", True, f"{settings.kafka.url} answers")
    for topic in settings.topics:
        n = topics[topic].partitions if topic in topics else None
        yield Finding(
            f"topic {topic}",
            n == settings.kafka.partitions,
            "missing; make it with `coldstream topics`"
            if n is None
            else f"{n} partitions"
            + (
                ""
                if n == settings.kafka.partitions
                else f", but kafka.partitions is {settings.kafka.partitions}; make them equal"
            ),
        )
    for topic in (settings.kafka.dead_letter, settings.kafka.weights):
        yield Finding(
            f"topic {topic}",
            topic in topics,
            "there" if topic in topics else "missing; make it with `coldstream topics`",
        )
