"""The monitor's figures in Prometheus' text format."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from state_store.tasks import LABEL_COUNTS
from stream.monitor.figures.intervals import Estimate

_FIGURES = {
    "auc": "area under the ROC curve",
    "uauc": "AUC within users, of the probability",
    "rank_uauc": "AUC within users, of the rank score",
    "ne": "normalised entropy",
    "calibration": "sum of predictions over sum of labels",
    "log_loss": "mean log-loss, nats",
    "rate": "share of positives",
    "benefit": "log-loss by which the model is better than popularity, nats",
}
_MEANS = {
    "reference_auc": "AUC of popularity",
    "unseen_users": "share of samples whose user had never been trained",
    "unseen_items": "share of samples whose item had never been trained",
    "user_norm": "mean norm of the user's embedding",
    "item_norm": "mean norm of the item's embedding",
    "samples": "impressions",
    "positives": "impressions with a positive label",
}
_TWIN = {
    "auc": "AUC of the live weights on the twin's users",
    "reference_auc": "AUC of the frozen weights on the same impressions",
    "benefit": "log-loss by which the live weights are better than the frozen ones, nats",
    "samples": "impressions scored by both",
}
_SERVED = {
    "samples": "impressions that a scorer decided, their label known",
    "positives": "those with a positive label",
    "rate": "share of positives",
    "mean": "mean probability served",
    "auc": "area under the ROC curve",
    "ne": "normalised entropy",
    "calibration": "sum of probabilities served over sum of labels",
    "log_loss": "mean log-loss, nats",
    "benefit": "log-loss by which what was served is better than the learner's own prediction, nats",
    "skew": "mean of what was served less the learner's own prediction",
    "skew_abs": "mean of its absolute value",
    "skew_p50": "its median",
    "skew_p99": "its 99th percentile",
}
_COHORT = ["dimension", "cohort"]


def _value(figure: Any) -> float | None:
    return figure.value if isinstance(figure, Estimate) else figure


def _gauge(
    name: str, said: str, labels: list[str], rows: Iterable[tuple[list[str], float | None]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"coldstream_{name}", said, labels=labels)
    for label_values, value in rows:
        if value is not None:
            family.add_metric(label_values, value)
    return family


def _of_cohorts(prefix: str, said: Mapping[str, str], rows: list[dict[str, Any]], where: str) -> Iterator[Metric]:
    for name, meaning in said.items():
        found = (([row["dimension"], row["cohort"]], _value(row.get(name))) for row in rows)
        yield _gauge(f"{prefix}_{name}", f"{meaning}; {where}", _COHORT, found)


class _Figures(Collector):
    def __init__(self, view: dict[str, Any], health: dict[str, Any]) -> None:
        self._view, self._health = view, health

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield from _of_cohorts("cohort", {**_FIGURES, **_MEANS}, view["now"], "recent window")
        for name in ("low", "high"):
            rows = (([r["dimension"], r["cohort"]], getattr(r["auc"], name)) for r in view["now"])
            yield _gauge(f"cohort_auc_{name}", "end of the 95 % interval; recent window", _COHORT, rows)
        yield from _of_cohorts("cohort_faded", _FIGURES, view["faded"], "fading")
        weights = (
            ([row["dimension"], row["cohort"], part], weight)
            for row in view["now"]
            for part, weight in zip(view["weights"], row.get("weights", []), strict=False)
        )
        yield _gauge("cohort_part_weight", "mean weight of a part of the model by state", [*_COHORT, "part"], weights)
        num_alarms = len(view["series"]["alarms"]) if view["series"] else 0
        yield CounterMetricFamily("coldstream_drift_alarms", "drift alarms of the run", value=num_alarms)
        unscored = view.get("unscored", 0)
        yield CounterMetricFamily("coldstream_unscored", "predictions of the run that were no numbers", value=unscored)
        yield from self._of_features()
        yield from self._of_twin()
        yield from self._of_served()
        yield from self._of_join()
        yield from self._of_processes()
        yield from self._of_waits()
        yield from self._of_learner()
        yield from self._of_rollout()

    def _of_features(self) -> Iterator[Metric]:
        rows = self._view.get("freshness", [])
        nulls = (([row["feature"]], row["null"].value) for row in rows)
        yield _gauge("feature_null_rate", "share of samples without the feature", ["feature"], nulls)
        ages = (
            ([row["feature"], percentile], row[name])
            for row in rows
            for percentile, name in (("50", "age_p50_s"), ("99", "age_p99_s"))
        )
        yield _gauge("feature_age_seconds", "age at use", ["feature", "percentile"], ages)

    def _of_twin(self) -> Iterator[Metric]:
        twin = self._view["twin"]
        yield from _of_cohorts("twin", _TWIN, twin["now"] if twin else [], "recent window")
        hours = twin["age_now_h"] if twin else None
        age = None if hours is None else hours * 3600
        yield _gauge("twin_age_seconds", "event-time age of the frozen weights at use", [], [([], age)])

    def _of_served(self) -> Iterator[Metric]:
        served = self._view.get("served")
        # Ranges of versions come and go, which would leave a series behind for each.
        rows = [row for row in served["now"] if row["dimension"] != "version"] if served else []
        yield from _of_cohorts("served", _SERVED, rows, "recent window, as served")
        alarms = len(served["alarms"]) if served else 0
        yield CounterMetricFamily("coldstream_skew_alarms", "skew alarms of the run", value=alarms)

    def _of_join(self) -> Iterator[Metric]:
        health = self._health
        counts = CounterMetricFamily("coldstream_join", "what the join counted", labels=["kind"])
        for name, count in health["counts"].items():
            if name != "dropped" and ":" not in name:
                counts.add_metric([name], count)
        yield counts
        labels = CounterMetricFamily("coldstream_labels", "what samples said of a task", labels=["task", "label"])
        for row in health["tasks"]:
            for label in LABEL_COUNTS:
                labels.add_metric([row["task"], label], row[label])
        yield labels
        learned = (([row["task"]], float(row["learned"])) for row in health["tasks"])
        yield _gauge("task_learned", "whether the model learns it; cohort figures are of that task", ["task"], learned)
        # It falls when a late label turns one of them, which a counter must not.
        dropped = health["counts"].get("dropped")
        yield _gauge("dropped_negatives", "negatives left out by join.negative_rate", [], [([], dropped)])
        shares = (([name], share) for name, share in health["rates"].items())
        yield _gauge("join_rate", "share of feedback (hit, orphan) or of events (late, dead_letter)", ["kind"], shares)
        # By worker: a sum would fall when one of them leaves, which a counter must not.
        by = ["worker", "outcome"]
        outcomes = CounterMetricFamily("coldstream_fence", "what the fence said to batches", labels=by)
        for worker, report in health["workers"].items():
            for name, count in report.get("outcomes", {}).items():
                outcomes.add_metric([worker, name], count)
        yield outcomes
        lags = (([tp], records) for report in health["workers"].values() for tp, records in report["lag"].items())
        yield _gauge("lag_records", "records not yet applied", ["topic_partition"], lags)
        samples = (([where], float(count)) for where, count in health["sample_lag"].items())
        yield _gauge("lag_samples", "samples joined and not learned, or not in the norms of the state", ["of"], samples)
        delays = (([partition], seconds) for partition, seconds in health["watermark_delay_s"].items())
        yield _gauge("watermark_delay_seconds", "event time behind the newest event", ["partition"], delays)

    def _of_processes(self) -> Iterator[Metric]:
        health = self._health
        resident: list[tuple[list[str], float | None]] = [
            (["worker", name], report.get("resident_bytes")) for name, report in health["workers"].items()
        ]
        if health["learner"] is not None:
            resident.append((["learner", "learner"], health["learner"]["resident_bytes"]))
        resident += [(["monitor", "monitor"], health["monitor_bytes"]), (["redis", "redis"], health["redis_bytes"])]
        yield _gauge("resident_bytes", "memory of a process", ["role", "name"], resident)
        memory = health["redis_memory"]
        kinds = (([row["kind"]], row["num_bytes"]) for row in memory["kinds"]) if memory else ()
        yield _gauge("redis_kind_bytes", "memory of Redis by kind, estimated from some of its keys", ["kind"], kinds)
        sizes = ((["user"], memory["user_bytes"]), (["item"], memory["item_bytes"])) if memory else ()
        yield _gauge("redis_entity_bytes", "mean memory of one, estimated; of an item by partition", ["of"], sizes)
        yield _gauge("ready", "whether every role reports", [], [([], float(not health["missing"]))])

    def _of_waits(self) -> Iterator[Metric]:
        health, labels = self._health, ["role", "name", "step"]
        now_ms = health["time_ms"]
        waiting = (
            ([wait[label] for label in labels], max(0.0, (now_ms - wait["since_ms"]) / 1000))
            for wait in health["waits"]
        )
        yield _gauge("waiting_seconds", "how long a step has been held up that is held up now", labels, waiting)
        waited = CounterMetricFamily("coldstream_waited_seconds", "how long a step was held up in all", labels=labels)
        for row in health["waited"]:
            waited.add_metric([row[label] for label in labels], row["seconds"])
        yield waited

    def _of_learner(self) -> Iterator[Metric]:
        learner = self._health["learner"]
        if learner is None:
            return
        yield CounterMetricFamily("coldstream_samples_trained", "samples learned", value=learner["num_trained"])
        ageless = learner["num_ageless"]
        yield CounterMetricFamily("coldstream_ageless_samples", "learned, of records without a time", value=ageless)
        yield _gauge("weights_version", "newest version", [], [([], learner["version"])])
        held = float(bool(learner["held_back"]))
        yield _gauge("weights_held_back", "whether the last attempt to publish was held back", [], [([], held)])
        if learner["published_ms"]:
            age = (self._health["time_ms"] - learner["published_ms"]) / 1000
            yield _gauge("weights_age_seconds", "since it was published", [], [([], age)])
        yield _gauge("learner_step_seconds", "recent mean", [], [([], learner["step_s"])])
        yield _gauge("learner_step_max_seconds", "longest of late", [], [([], learner["step_max_s"])])
        yield _gauge("embedding_rows", "ids that have an embedding", [], [([], learner["rows"])])
        fresh = [(["50"], learner["freshness_p50_s"]), (["99"], learner["freshness_p99_s"])]
        yield _gauge("freshness_seconds", "event to weights", ["percentile"], fresh)
        codes = learner["codes"]
        if codes is None:
            return
        perplexity = [(["mean"], codes["perplexity"]), (["least"], codes["perplexity_min"])]
        yield _gauge("code_perplexity", "codes that a codebook is as good as", ["of"], perplexity)
        yield _gauge("code_dead_share", "share of the codes that are hardly used", [], [([], codes["dead"])])
        yield _gauge("code_moved_share", "between frozen versions, of a code's length", [], [([], codes["moved"])])

    def _of_rollout(self) -> Iterator[Metric]:
        """Versions as they are decided; nothing of a canary where there is none."""
        rollout, learner = self._health["rollout"], self._health["learner"]
        chosen = (([what], rollout[what]) for what in ("stable", "candidate", "pinned"))
        yield _gauge("rollout_version", "version of the weights; 0: none", ["what"], chosen)
        yield _gauge("rollout_held", "whether publishing is held", [], [([], float(bool(rollout["hold"])))])
        revision = rollout["revision"]
        yield CounterMetricFamily("coldstream_rollout_revisions", "changes of what is decided", value=revision)
        canary = learner["canary"] if learner is not None else None
        if canary is None:
            return
        yield _gauge("canary_outcomes", "of the trial so far", [], [([], canary["outcomes"])])
        evidence = (([name], value) for name, value in canary["evidence"].items())
        yield _gauge("canary_evidence", "logarithm of the odds against no harm", ["harm"], evidence)
        yield _gauge("canary_evidence_limit", "at which it is harm", [], [([], canary["limit"])])


def exposition(view: dict[str, Any], health: dict[str, Any]) -> bytes:
    """Text for a scrape.

    Args:
        view: from `View.show`.
        health: from `Health.read`.
    """
    registry = CollectorRegistry()
    registry.register(_Figures(view, health))
    text: bytes = generate_latest(registry)
    return text
