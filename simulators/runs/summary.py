"""The summary of a run: totals against the oracle, quality on matured labels, speed, freshness, settings."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from learner.config import BY_SAMPLE
from learner.samples.keys import NO_KEY
from learner.samples.kind import SampleKind
from learner.samples.layout import HISTORY_ENTRY
from simulators.oracle import Expected, History
from state_store.entities.histories import SPARE, history_field, read_histories
from state_store.states import StateStore
from stream.command.doctor import versions
from stream.monitor.figures.bucket import NORMS, NULL, SEEN, merge
from stream.monitor.history.recorder import read_buckets
from stream.monitor.page.tasks import figures_by_task
from stream.predictions.log import read_predictions
from stream.settings import Settings

COMPARED = (
    "impressions",
    "feedback",
    "positive",
    "negative",
    "correction",
    "task_correction",
    "shown",
    "settled",
    "dropped",
    "orphan",
    "late",
    "duplicate_impression",
    "duplicate_feedback",
    "malformed",
    "heartbeat",
)


def differences(store: StateStore, num_partitions: int, expected: Expected) -> dict[str, Any]:
    """Where Redis and the oracle disagree: counter name -> [in Redis, expected]; empty if they agree in everything."""
    found: dict[str, Any] = {}
    counts = store.fence_counts(range(num_partitions))
    for name in (*COMPARED, *(name for name in expected.counts if ":" in name)):
        if counts.get(name, 0) != expected.counts[name]:
            found[name] = [counts.get(name, 0), expected.counts[name]]
    for kind, wanted in (("u", expected.users), ("i", expected.items)):
        totals: dict[str, Counter[str]] = {}
        for p in range(num_partitions):
            for entity, counters in store.iter_counters(p, kind).items():
                totals.setdefault(entity, Counter()).update(counters)
        for entity in totals.keys() | wanted.keys():
            have, want = +totals.get(entity, Counter()), +wanted.get(entity, Counter())
            if have != want:
                found[f"{kind}:{entity}"] = [dict(have), dict(want)]
    return found | _other_histories(store, num_partitions, expected)


def _other_histories(store: StateStore, num_partitions: int, expected: Expected) -> dict[str, Any]:
    """Where the histories that Redis keeps are others than the newest entries of what the oracle has."""
    found: dict[str, Any] = {}
    for kept, (name, wanted) in zip(store.histories.kept, expected.histories.items(), strict=True):
        most = SPARE * kept.length
        stored: dict[str, History] = {}
        for p in range(num_partitions):
            for user, text in read_histories(store.client, store.keys.user(p, ""), kept.field).items():
                entries = np.frombuffer(text, HISTORY_ENTRY).copy()
                if kept.field == history_field(name, BY_SAMPLE):
                    # Which codes a sample gets the oracle does not know.
                    entries["category"] = NO_KEY
                stored[user] = sorted(stored.get(user, []) + entries.tolist())
        for user in stored.keys() | wanted.keys():
            have, want = stored.get(user, [])[-most:], wanted.get(user, [])[-most:]
            if have != want:
                found[f"{name}:{user}"] = [have, want]
    return found


def quality(predictions: pl.DataFrame, settings: Settings) -> dict[str, Any]:
    """Progressive validation on matured labels: of the main task in full, and by task."""
    by_task = figures_by_task(predictions, settings.labels)
    main = dict(by_task[settings.main_task.name])
    return {
        "impressions_evaluated": main.pop("samples"),
        "baseline": {"auc": main.pop("baseline_auc"), "log_loss": main.pop("baseline_log_loss")},
        **main,
        "task": settings.main_task.name,
        "tasks": by_task,
    }


def sample_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Samples by kind, and the events that became none.

    `task_correction`: labels of other tasks that came to be known, or turned, after the base sample had left.
    `dropped`: negatives left out by `join.negative_rate`. `orphan`: feedback without an impression to belong to;
    `dead_letter`: malformed or late; both are in the dead-letter topic.
    """
    return {
        "positive": counts.get("positive", 0),
        "negative": counts.get("negative", 0),
        "correction": counts.get("correction", 0),
        "task_correction": counts.get("task_correction", 0),
        "dropped": counts.get("dropped", 0),
        "orphan": counts.get("orphan", 0),
        "dead_letter": counts.get("malformed", 0) + counts.get("late", 0),
    }


def with_norms(folder: Path) -> dict[str, float]:
    """Share of a run's samples that had the embedding norm of their user, and of their item; of one micro-batch in 16.

    A cold user has none, and neither has one whose samples are still on their way to the learner.
    """
    buckets = read_buckets(folder)
    if not buckets:
        return {}
    user, item = merge(buckets).features_GA[-NORMS:]
    return {
        name: round(1 - float(row[NULL] / row[SEEN]), 4) for name, row in (("user", user), ("item", item)) if row[SEEN]
    }


def build_summary(
    settings: Settings, store: StateStore, folder: Path, expected: Expected, run: Mapping[str, Any]
) -> dict[str, Any]:
    """Put the summary together.

    Args:
        settings: effective settings.
        store: the run's state.
        folder: run folder, with its prediction log and cohort figures.
        expected: what the oracle counted from the log.
        run: what the caller measured: names, seeds, times, versions of the weights.
    """
    partitions = settings.kafka.partitions
    counts = store.fence_counts(range(partitions))
    wrong = differences(store, partitions, expected)
    predictions = read_predictions(folder / "predictions")
    logged = len(predictions)
    return {
        **run,
        "impressions": counts.get("impressions", 0),
        "feedback": counts.get("feedback", 0),
        "samples": sample_counts(counts),
        "duplicates": counts.get("duplicate_impression", 0) + counts.get("duplicate_feedback", 0),
        "samples_trained": int((predictions["kind"] <= int(SampleKind.CORRECTION)).sum()),
        "counts_match": not wrong and logged == sum(expected.counts[kind.name.lower()] for kind in SampleKind),
        "count_differences": dict(list(wrong.items())[:20]),
        "samples_with_norm": with_norms(folder),
        **quality(predictions, settings),
        "settings": settings.masked(),
        "versions": versions(),
    }


def cohort_rows(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The overall figures and those of each cohort, for a table."""
    overall = {k: summary.get(k) for k in ("auc", "rank_uauc", "served_auc", "log_loss", "ne", "calibration")}
    overall["samples"] = summary.get("impressions_evaluated", 0)
    overall["baseline_auc"] = summary.get("baseline", {}).get("auc")
    return [("all", overall), *summary["cohorts"].items()]
