"""The scorer's metrics in Prometheus' text format; where several processes answer, the sums over all of them.

Legend: W processes, R routes, S statuses, B buckets, K totals.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from learner.tables.memory import zeros
from state_store.resident import resident_bytes

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_NAMES = (*map(str, _SECONDS), "+Inf")
_NUM_STATUSES = 600
_TOTALS = {
    "degraded": "requests scored without the state, as Redis did not tell it",
    "scored": "candidates scored",
    "shown": "impressions handed to Kafka",
    "lost": "impressions that Kafka did not take",
    "canary": "requests of canary users, served the newest weights",
}
OTHER = "other"
"""The route of what has none."""


class Counted:
    """What processes have counted, each in a place of its own; shared if made within `sharing()`.

    Args:
        routes: names of all routes.
        num_processes: W.
    """

    def __init__(self, routes: Sequence[str], num_processes: int = 1) -> None:
        self.routes = (*routes, OTHER)
        size = num_processes, len(self.routes)
        self.requests_WRS = zeros((*size, _NUM_STATUSES), np.int64)
        self.buckets_WRB = zeros((*size, len(_NAMES)), np.int64)
        self.seconds_WR = zeros(size, np.float64)
        self.totals_WK = zeros((num_processes, len(_TOTALS)), np.int64)


class Figures:
    """Counts what is asked.

    Args:
        now: figures at the time of a scrape: version, created_ms, swaps, refused, pinned, ready, stable,
            arms.
        totals: what this process has done since it started: degraded, scored, shown, lost, canary.
        counted: where it is counted.
        place: of this process.
    """

    def __init__(
        self,
        now: Callable[[], dict[str, Any]],
        totals: Callable[[], tuple[int, ...]],
        counted: Counted,
        place: int = 0,
    ) -> None:
        self._routes = {name: number for number, name in enumerate(counted.routes)}
        self._requests_RS, self._buckets_RB = counted.requests_WRS[place], counted.buckets_WRB[place]
        self._seconds_R, self._totals_K = counted.seconds_WR[place], counted.totals_WK[place]
        # Of processes that had this place before.
        self._before_K = self._totals_K.copy()
        self._totals = totals
        self._registry = CollectorRegistry()
        self._registry.register(_Sums(counted))
        self._registry.register(_Now(now))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        number = self._routes[route]
        self._requests_RS[number, status] += 1
        self._buckets_RB[number, bisect_left(_SECONDS, seconds)] += 1
        self._seconds_R[number] += seconds
        self._totals_K[:] = self._before_K + self._totals()

    def exposition(self) -> bytes:
        """Text for a scrape."""
        self._totals_K[:] = self._before_K + self._totals()
        text: bytes = generate_latest(self._registry)
        return text


class _Sums(Collector):
    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        counted = self._counted
        requests = CounterMetricFamily("coldstream_serving_requests", "requests answered", labels=["route", "status"])
        requests_RS = counted.requests_WRS.sum(0)
        for route, status in np.argwhere(requests_RS).tolist():
            requests.add_metric([counted.routes[route], str(status)], int(requests_RS[route, status]))
        yield requests
        seconds = HistogramMetricFamily(
            "coldstream_serving_request_seconds", "from the request's head to its answer", labels=["route"]
        )
        for name, buckets_B, total in zip(
            counted.routes, counted.buckets_WRB.sum(0).tolist(), counted.seconds_WR.sum(0).tolist(), strict=True
        ):
            if any(buckets_B):
                seconds.add_metric([name], list(zip(_NAMES, accumulate(buckets_B), strict=True)), total)
        yield seconds
        for (name, said), total in zip(_TOTALS.items(), counted.totals_WK.sum(0).tolist(), strict=True):
            yield CounterMetricFamily(f"coldstream_serving_{name}", said, value=total)


class _Now(Collector):
    def __init__(self, now: Callable[[], dict[str, Any]]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        now = self._now()
        said = "versions of the weights that came into force"
        yield CounterMetricFamily("coldstream_serving_swaps", said, value=now["swaps"])
        yield _gauge("ready", "whether requests should come", float(now["ready"]))
        yield _gauge("refused_weights", "whether a newer version is refused", float(bool(now["refused"])))
        yield _gauge("pinned_version", "version that scorers are told to serve; 0: the newest", now["pinned"])
        if now["version"] is not None:
            yield _gauge("weights_version", "version in use", now["version"])
            yield _gauge("weights_age_seconds", "since it was published", time.time() - now["created_ms"] / 1000)
        if now["stable"]:
            yield _gauge("stable_version", "version served outside the canary share", now["stable"])
        arms = GaugeMetricFamily("coldstream_serving_arm_version", "of an arm's weights; 0: none", labels=["arm"])
        for name, version in now["arms"].items():
            arms.add_metric([name], version)
        yield arms
        yield _gauge("resident_bytes", "memory of the process that answers", resident_bytes())


def _gauge(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"coldstream_serving_{name}", said, value=value)
