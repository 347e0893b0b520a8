"""Exact figures of a finished run by task and cohort, from its prediction log.

The model learns the main task. Its score is held against the labels of the other tasks, too: how well it ranks them
(AUC, UAUC). Their probabilities are not predicted, so for them there is no log-loss and no calibration.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from learner.metrics import auc, log_loss, sampling_weights, summarise
from state_store.tasks import Task
from stream.prediction_log import matured

COHORTS: tuple[tuple[str, int, float], ...] = (
    ("0-9", 0, 10),
    ("10-49", 10, 50),
    ("50-199", 50, 200),
    ("200+", 200, math.inf),
)
"""By the user's impressions before the one predicted: name, from, below."""

_OF_ANY_TASK = ("samples", "base_rate", "auc", "uauc", "baseline_auc")


def figures_by_task(predictions: pl.DataFrame, tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """Progressive validation on matured labels: of each task overall and by cohort, popularity beside it.

    Args:
        predictions: the prediction log.
        tasks: all of them; popularity is the main one's.

    Returns:
        task -> figures, as of `summarise`, and `cohorts`: cohort -> figures. A figure that has no value is None.
    """
    found = {}
    for n, task in enumerate(tasks):
        figures = _evaluate(matured(predictions, None if task.is_main else n))
        found[task.name] = figures if task.is_main else _ranking_alone(figures)
    return found


def _evaluate(rows: pl.DataFrame) -> dict[str, Any]:
    labels, scores = rows["label"].to_numpy(), rows["prediction"].to_numpy()
    users = rows["user_id"].cast(pl.Categorical).to_physical().to_numpy()
    seen, baseline = rows["user_impressions"].to_numpy(), rows["baseline"].to_numpy()
    weights = sampling_weights(labels, rows["negative_rate"].to_numpy())

    def of(chosen: np.ndarray) -> dict[str, Any]:
        figures = summarise(labels[chosen], scores[chosen], users[chosen], weights[chosen])
        beside = {
            "baseline_auc": auc(labels[chosen], baseline[chosen], weights[chosen]),
            "baseline_log_loss": log_loss(labels[chosen], baseline[chosen], weights[chosen]),
        }
        return _plain({**figures, **beside})

    overall = of(np.ones(len(labels), np.bool_))
    return {**overall, "cohorts": {name: of((seen >= low) & (seen < high)) for name, low, high in COHORTS}}


def _ranking_alone(figures: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: figures[name] for name in _OF_ANY_TASK}
    return {**kept, "cohorts": {c: {name: row[name] for name in _OF_ANY_TASK} for c, row in figures["cohorts"].items()}}


def _plain(figures: Mapping[str, float | int]) -> dict[str, Any]:
    """Six digits; NaN, where a metric has no value, becomes None."""
    return {k: v if isinstance(v, int) else round(v, 6) if math.isfinite(v) else None for k, v in figures.items()}
