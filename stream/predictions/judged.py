"""Predictions beside the labels that became final."""

import polars as pl

from learner.samples.kind import SampleKind
from stream.predictions.columns import BY_TASK

_BY_TASK_SAID = ("prediction", "rank_score", "baseline")


def matured(predictions: pl.DataFrame, task: int | None = None) -> pl.DataFrame:
    """One row per impression, with the prediction of its base sample and its final label.

    A correction makes the label of its negative 1: metrics are taken on matured labels only.

    Args:
        predictions: rows of the log.
        task: index of the task whose labels are wanted, if it is not the main one; impressions whose label is not
            known yet are left out. The prediction is the main task's all the same; or, of a log as `of_task` gives it,
            the one that was made right before the task's label was first learned.
    """
    kind = pl.col("kind")
    base = predictions.filter(kind.is_in([int(SampleKind.NEGATIVE), int(SampleKind.POSITIVE)]))
    if task is None:
        later = predictions.filter(kind == int(SampleKind.CORRECTION)).select("imp_id", later=pl.lit(1, pl.Int8))
        known = pl.col("label")
    else:
        of_task = (kind == BY_TASK) & (pl.col("task") == task)
        # At most two: not in time, and then all the same.
        first = [pl.col(name).first().fill_nan(None).alias(f"later_{name}") for name in _BY_TASK_SAID]
        rows = predictions.filter(of_task).group_by("imp_id", maintain_order=True)
        later = rows.agg(pl.col("label").max().alias("later"), *first)
        bit = 1 << task
        known = pl.when(pl.col("known") & bit > 0).then((pl.col("labels") & bit > 0).cast(pl.Int8))
    joined = base.join(later, on="imp_id", how="left", maintain_order="left")
    if task is not None:
        was_known = pl.col("known") & (1 << task) > 0
        joined = joined.with_columns(
            pl.when(was_known).then(name).otherwise(pl.coalesce(f"later_{name}", name)).alias(name)
            for name in _BY_TASK_SAID
        ).drop([f"later_{name}" for name in _BY_TASK_SAID])
    return joined.with_columns(label=pl.coalesce("later", known)).drop("later").drop_nulls("label")


def with_served(rows: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Rows of `matured`, each with what was predicted when its impression passed, with what had been learned by then.

    Columns `served_prediction` and `served_rank_score`; null where that was not logged.
    """
    shown = predictions.filter(pl.col("kind") == int(SampleKind.SHOWN)).select(
        "imp_id", served_prediction="prediction", served_rank_score="rank_score"
    )
    return rows.join(shown, on="imp_id", how="left", maintain_order="left")
