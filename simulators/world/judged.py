"""Predictions against the truth, which only a world knows.

Legend: N impressions, by their prediction.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from simulators.world.rows import APPEAL, TRUTH
from stream.monitor.page.tasks import COHORTS
from stream.predictions.judged import matured

_FIRST = 10
"""A user's first so many impressions are told one by one."""
SHOWN_BEFORE = (("0", 0, 1), ("1-4", 1, 5), ("5-9", 5, 10), *COHORTS[1:])
"""By how often an item had been shown before, the first cohort in parts: name, from, below."""


def judge(predictions: pl.DataFrame, stretches: Iterable[pl.DataFrame]) -> dict[str, Any]:
    """Figures of all impressions, by cohort, by the n-th impression of each user and by how often an item was shown.

    Args:
        predictions: the prediction log of a run.
        stretches: the world's rows, with their truth.

    Returns:
        Of each group: `samples`; `true_auc`, the AUC in expectation over labels, and `best_auc`, that of the truth
        itself; `calibration`, mean prediction by mean truth; `error`, root mean square of their difference. Of lists
        that leave a choice, those of the group among themselves: `lists`, how many; `regret`, by how much the click
        probability of the first choice falls short of the best item's, position left out; `random_regret`, that of a
        choice at random; `reach`, how far the first choice comes from that (0) to the best (1). Groups are by what
        the pipeline knew when it predicted: `cohorts` and `nth_impression` by the user's impressions before this one,
        the latter without lists; `item_cohorts` and, finer, `item_shown_before` by the item's. What cannot be said is
        None.
    """
    base = matured(predictions).select("imp_id", "prediction", "rank_score", "user_impressions", "item_impressions")
    # What came too late, or whose negative was left out, was never predicted.
    parts = [rows.select("imp_id", TRUTH, APPEAL).join(base, on="imp_id", maintain_order="left") for rows in stretches]
    found = pl.concat(parts).with_columns(list=pl.col("imp_id").str.split("-").list.first())
    by = {
        "cohorts": ("user_impressions", COHORTS),
        "item_cohorts": ("item_impressions", COHORTS),
        "item_shown_before": ("item_impressions", SHOWN_BEFORE),
    }
    return {
        **_figures(found),
        **{
            name: {
                cohort: _figures(found.filter(pl.col(column).is_between(low, high, closed="left")))
                for cohort, low, high in cohorts
            }
            for name, (column, cohorts) in by.items()
        },
        "nth_impression": {
            str(n + 1): _figures(found.filter(pl.col("user_impressions") == n), lists=False) for n in range(_FIRST)
        },
    }


def _figures(rows: pl.DataFrame, *, lists: bool = True) -> dict[str, Any]:
    if rows.is_empty():
        return {"samples": 0}
    predicted_N, truth_N = rows["prediction"].to_numpy().astype(np.float64), rows[TRUTH].to_numpy()
    figures = {
        "samples": len(rows),
        "true_auc": expected_auc(predicted_N, truth_N),
        "best_auc": expected_auc(truth_N, truth_N),
        "calibration": float(predicted_N.mean() / truth_N.mean()) if truth_N.any() else None,
        "error": float(np.sqrt(np.mean((predicted_N - truth_N) ** 2))),
    }
    return figures | _regret(rows) if lists else figures


def _regret(rows: pl.DataFrame) -> dict[str, float | int | None]:
    of_lists = rows.group_by("list", maintain_order=True).agg(
        number=pl.len(),
        best=pl.col(APPEAL).max(),
        chosen=pl.col(APPEAL).sort_by("rank_score", descending=True, maintain_order=True).first(),
        any=pl.col(APPEAL).mean(),
    )
    of_lists = of_lists.filter(pl.col("number") > 1)
    best = pl.col("best")
    regret, at_random = of_lists.select((best - pl.col("chosen")).mean(), any=(best - pl.col("any")).mean()).row(0)
    reach = 1 - regret / at_random if at_random else None
    return {"lists": len(of_lists), "regret": regret, "random_regret": at_random, "reach": reach}


def expected_auc(scores_N: np.ndarray, truth_N: np.ndarray) -> float | None:
    """AUC in expectation, where each label is 1 with a known probability; None where that cannot be.

    >>> expected_auc(np.array([0.1, 0.9]), np.array([0.0, 1.0]))
    1.0
    >>> expected_auc(np.array([0.5, 0.5]), np.array([0.2, 0.8]))
    0.5
    """
    _, group_N = np.unique(scores_N, return_inverse=True)
    positive_G, negative_G = np.bincount(group_N, truth_N), np.bincount(group_N, 1 - truth_N)
    pairs = positive_G.sum() * negative_G.sum()
    below_G = np.cumsum(negative_G) - negative_G
    return float((positive_G * (below_G + negative_G / 2)).sum() / pairs) if pairs else None
