"""Exact figures of a finished run by task and cohort, from its prediction log.

Where the model learns the main task alone, its score is held against the labels of the other tasks, too: how well it
ranks them (AUC, UAUC). Their probabilities are not predicted, so for them there is no log-loss and no calibration.
Where it learns all tasks, each has its own figures, all of them; of one whose value is learned only how well it ranks.

Each figure is there twice: of the prediction made right before the label was learned (progressive validation), and,
with `served_` before its name, of that made when the impression passed, with only what had been learned by then. The
latter is what a user gets. UAUC, too, is there twice: of the probability, and (`rank_uauc`) of the rank score.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from learner.metrics import auc, calibration, log_loss, sampling_weights, summarise, uauc
from state_store.tasks import Task
from stream.predictions.judged import matured, with_served
from stream.task_columns import learned_in, of_task

COHORTS: tuple[tuple[str, int, float], ...] = (
    ("0-9", 0, 10),
    ("10-49", 10, 50),
    ("50-199", 50, 200),
    ("200+", 200, math.inf),
)
"""By the impressions of the user, or of the item, before the one predicted: name, from, below."""

_SERVED = ("served_auc", "served_uauc", "served_rank_uauc", "served_log_loss", "served_calibration")
_OF_ANY_TASK = (
    "samples",
    "base_rate",
    "auc",
    "uauc",
    "rank_uauc",
    "served_auc",
    "served_uauc",
    "served_rank_uauc",
    "baseline_auc",
)


def figures_by_task(predictions: pl.DataFrame, tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """Progressive validation on matured labels: of each task overall and by cohort, popularity beside it.

    Args:
        predictions: the prediction log.
        tasks: all of them; popularity is the main one's, but of a task that is learned its own.

    Returns:
        task -> figures, as of `summarise`, and more by cohort: `cohorts` (of users), `item_cohorts`, `first_impression`
        (of each user). A figure that has no value is None.
    """
    found = {}
    for n, task in enumerate(tasks):
        is_learned = not task.is_main and learned_in(predictions, task.name)
        rows = of_task(predictions, task.name) if is_learned else predictions
        figures = _evaluate(with_served(matured(rows, None if task.is_main else n), rows))
        has_all = task.is_main or (is_learned and not task.value_unit)
        found[task.name] = figures if has_all else _ranking_alone(figures)
    return found


class _Columns:
    """Columns of matured rows as arrays."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.labels = rows["label"].to_numpy()
        self.users = rows["user_id"].cast(pl.Categorical).to_physical().to_numpy()
        self.seen, self.items_seen = rows["user_impressions"].to_numpy(), rows["item_impressions"].to_numpy()
        self.weights = sampling_weights(self.labels, rows["negative_rate"].to_numpy())
        self.scores, self.baseline = rows["prediction"].to_numpy(), rows["baseline"].to_numpy()
        # A log of a former version has one score only.
        self.ranks = rows["rank_score"].fill_null(rows["prediction"]).to_numpy()
        self.served = rows["served_prediction"].fill_null(np.nan).to_numpy()
        self.served_ranks = rows["served_rank_score"].fill_null(np.nan).to_numpy()

    def figures(self, chosen: np.ndarray) -> dict[str, Any]:
        """Those of the rows where `chosen` is true."""
        labels, users, weights = self.labels[chosen], self.users[chosen], self.weights[chosen]
        baseline = self.baseline[chosen]
        return _plain(
            {
                **summarise(labels, self.scores[chosen], users, weights),
                "rank_uauc": uauc(labels, self.ranks[chosen], users, weights),
                "baseline_auc": auc(labels, baseline, weights),
                "baseline_log_loss": log_loss(labels, baseline, weights),
                **self._served(chosen & np.isfinite(self.served)),
            }
        )

    def _served(self, chosen: np.ndarray) -> dict[str, float]:
        if not chosen.any():
            return dict.fromkeys(_SERVED, math.nan)
        labels, users, weights = self.labels[chosen], self.users[chosen], self.weights[chosen]
        served = self.served[chosen]
        return {
            "served_auc": auc(labels, served, weights),
            "served_uauc": uauc(labels, served, users, weights),
            "served_rank_uauc": uauc(labels, self.served_ranks[chosen], users, weights),
            "served_log_loss": log_loss(labels, served, weights),
            "served_calibration": calibration(labels, served, weights),
        }


def _evaluate(rows: pl.DataFrame) -> dict[str, Any]:
    columns = _Columns(rows)

    def by(seen: np.ndarray) -> dict[str, Any]:
        return {name: columns.figures((seen >= low) & (seen < high)) for name, low, high in COHORTS}

    return {
        **columns.figures(np.ones(len(rows), np.bool_)),
        "cohorts": by(columns.seen),
        "item_cohorts": by(columns.items_seen),
        "first_impression": columns.figures(columns.seen == 0),
    }


def _ranking_alone(figures: Mapping[str, Any]) -> dict[str, Any]:
    def kept(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in _OF_ANY_TASK}

    of_cohorts = {by: {c: kept(row) for c, row in figures[by].items()} for by in ("cohorts", "item_cohorts")}
    return {**kept(figures), **of_cohorts, "first_impression": kept(figures["first_impression"])}


def _plain(figures: Mapping[str, float | int]) -> dict[str, Any]:
    """Six digits; NaN, where a metric has no value, becomes None."""
    return {k: v if isinstance(v, int) else round(v, 6) if math.isfinite(v) else None for k, v in figures.items()}
