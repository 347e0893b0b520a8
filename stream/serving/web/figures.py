"""The scorer's metrics in Prometheus' text format."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from state_store.resident import resident_bytes

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Figures:
    """Counts what is asked, in a registry of its own.

    Args:
        now: figures at the time of a scrape: version, created_ms, swaps, refused, degraded, scored, shown, lost, ready.
    """

    def __init__(self, now: Callable[[], dict[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "coldstream_serving_requests", "requests answered", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "coldstream_serving_request_seconds",
            "from the request's head to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Now(now))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """Text for a scrape."""
        text: bytes = generate_latest(self._registry)
        return text


class _Now(Collector):
    def __init__(self, now: Callable[[], dict[str, Any]]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        now = self._now()
        for name, said in (
            ("swaps", "versions of the weights that came into force"),
            ("degraded", "requests scored without the state, as Redis did not tell it"),
            ("scored", "candidates scored"),
            ("shown", "impressions handed to Kafka"),
            ("lost", "impressions that Kafka did not take"),
        ):
            yield CounterMetricFamily(f"coldstream_serving_{name}", said, value=now[name])
        yield _gauge("ready", "whether requests should come", float(now["ready"]))
        yield _gauge("refused_weights", "whether a newer version is refused", float(bool(now["refused"])))
        if now["version"] is not None:
            yield _gauge("weights_version", "version in use", now["version"])
            yield _gauge("weights_age_seconds", "since it was published", time.time() - now["created_ms"] / 1000)
        yield _gauge("resident_bytes", "memory of the scorer", resident_bytes())


def _gauge(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"coldstream_serving_{name}", said, value=value)
