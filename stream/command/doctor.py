"""`coldstream doctor`: what is there, what is missing, in plain words."""

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import redis

from state_store.client import connect
from state_store.embedded.redis import find_redis_server
from state_store.errors import OperatorError
from state_store.refusals import told
from stream.checks.finding import Finding, bad, ok
from stream.checks.kafka_cluster import check_codecs, check_kafka
from stream.checks.pipeline import check_pipeline
from stream.checks.redis_memory import check_kinds
from stream.checks.redis_server import check_redis
from stream.checks.scorer import check_scorer
from stream.kafka.broker import find_tansu
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
    "granian",
)


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
    """Check packages, Redis, state and weights, broker, topics and consumer group, scorer, in that order."""
    yield _packages()
    yield check_codecs()
    client = None
    if not settings.redis.url:
        yield _embedded("redis", find_redis_server)
    else:
        try:
            client = connect(settings.redis)
        except OperatorError as exc:
            yield bad("redis", str(exc))
    if client is not None:
        yield from _guarded("redis", check_redis(settings, client))
        yield from _guarded("redis kinds", check_kinds(settings, client))
        yield from _guarded("pipeline", check_pipeline(settings, client))
    if not settings.kafka.url:
        yield _embedded("kafka", find_tansu)
    else:
        yield from check_kafka(settings, client)
    if settings.serving.enabled and settings.serving.port:
        yield from check_scorer(settings)


def _packages() -> Finding:
    found = versions()
    missing = [name for name, v in found.items() if v == "missing"]
    if missing:
        return bad("packages", f"missing: {', '.join(missing)}; install with `make setup`, or pip")
    named = ("torch", "faust-streaming", "kafka-python", "redis")
    return ok("packages", ", ".join(f"{name} {found[name]}" for name in named))


def _guarded(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """What Redis refuses to tell does not end the examination."""
    try:
        yield from findings
    except redis.RedisError as exc:
        yield bad(subject, told(exc))


def _embedded(name: str, find: Callable[[], str]) -> Finding:
    try:
        return ok(name, f"no URL given; the embedded one is {find()}")
    except OperatorError as exc:
        return bad(name, str(exc))
