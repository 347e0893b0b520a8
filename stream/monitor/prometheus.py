"""The monitor's figures in Prometheus' text format."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.monitor.figures import Estimate

_COHORT_GAUGES = ("auc", "baseline_auc", "ne", "calibration", "log_loss", "rate", "benefit", "uauc")
_COHORT_MEANS = ("unseen_users", "unseen_items", "user_norm", "item_norm")


def _value(figure: Any) -> float | None:
    return figure.value if isinstance(figure, Estimate) else figure


class _Figures(Collector):
    def __init__(self, rows: list[dict[str, Any]], health: dict[str, Any], fields: list[str], num_alarms: int) -> None:
        self._rows, self._health, self._fields, self._num_alarms = rows, health, fields, num_alarms

    def collect(self) -> Iterator[Metric]:
        yield from self._of_cohorts()
        yield from self._of_pipeline()

    def _of_cohorts(self) -> Iterable[Metric]:
        labels = ["dimension", "cohort"]
        for name in (*_COHORT_GAUGES, *_COHORT_MEANS, "samples"):
            family = GaugeMetricFamily(f"coldstream_cohort_{name}", f"{name} in the recent window", labels=labels)
            for row in self._rows:
                value = _value(row.get(name))
                if value is not None:
                    family.add_metric([row["dimension"], row["cohort"]], value)
            yield family
        family = GaugeMetricFamily(
            "coldstream_cohort_adapter_weight", "mean weight of the adapter", labels=[*labels, "field"]
        )
        for row in self._rows:
            for field, weight in zip(self._fields, row.get("adapter", []), strict=False):
                family.add_metric([row["dimension"], row["cohort"], field], weight)
        yield family
        yield CounterMetricFamily("coldstream_drift_alarms", "drift alarms of the run", value=self._num_alarms)

    def _of_pipeline(self) -> Iterable[Metric]:
        health = self._health
        counts = CounterMetricFamily("coldstream_join", "what the join counted", labels=["kind"])
        for name, count in health["counts"].items():
            counts.add_metric([name], count)
        yield counts
        lag = GaugeMetricFamily("coldstream_lag_records", "records not yet applied", labels=["topic_partition"])
        resident = GaugeMetricFamily("coldstream_resident_bytes", "memory of a process", labels=["role", "name"])
        for name, report in health["workers"].items():
            for tp, records in report["lag"].items():
                lag.add_metric([tp], records)
            resident.add_metric(["worker", name], report.get("resident_bytes", 0))
        yield lag
        delay = GaugeMetricFamily("coldstream_watermark_delay_seconds", "event time", labels=["partition"])
        for partition, seconds in health["watermark_delay_s"].items():
            delay.add_metric([partition], seconds)
        yield delay
        learner = health["learner"]
        if learner is not None:
            resident.add_metric(["learner", "learner"], learner["resident_bytes"])
            yield CounterMetricFamily("coldstream_samples_trained", "samples learned", value=learner["num_trained"])
            yield GaugeMetricFamily("coldstream_weights_version", "newest version", value=learner["version"])
            if learner["published_ms"]:
                age = (health["time_ms"] - learner["published_ms"]) / 1000
                yield GaugeMetricFamily("coldstream_weights_age_seconds", "since it was published", value=age)
            yield GaugeMetricFamily("coldstream_learner_step_seconds", "recent mean", value=learner["step_s"])
            fresh = GaugeMetricFamily("coldstream_freshness_seconds", "event to weights", labels=["quantile"])
            for quantile, name in (("0.5", "freshness_p50_s"), ("0.99", "freshness_p99_s")):
                if learner[name] is not None:
                    fresh.add_metric([quantile], learner[name])
            yield fresh
        yield resident
        yield GaugeMetricFamily("coldstream_ready", "whether every role reports", value=float(not health["missing"]))


def exposition(rows: list[dict[str, Any]], health: dict[str, Any], fields: list[str], num_alarms: int) -> bytes:
    """Text for a scrape."""
    registry = CollectorRegistry()
    registry.register(_Figures(rows, health, fields, num_alarms))
    text: bytes = generate_latest(registry)
    return text
