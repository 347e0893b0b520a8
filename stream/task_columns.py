"""What the prediction log has of each task, where all of them are learned: columns such as `probability:buy`."""

import msgspec
import numpy as np
import polars as pl

from learner.learned import ByTask
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind

_COLUMNS = (("probability", "prediction"), ("rank", "rank_score"), ("popularity", "baseline"))
"""First parts of a task's columns, and the columns of the log that are the main task's."""
_BASE = (int(SampleKind.NEGATIVE), int(SampleKind.POSITIVE))


class TaskColumns(msgspec.Struct, frozen=True):
    """Of B samples and T tasks; NaN where a sample is about another task."""

    probabilities_BT: np.ndarray
    """Of a task whose value is learned, v / (1 + v) of the expected value v, in its unit."""
    ranks_BT: np.ndarray
    popularity_BT: np.ndarray
    """The item's mean label so far, shrunk."""

    def take(self, chosen_B: np.ndarray) -> "TaskColumns":
        """Those where `chosen_B` (booleans) is true."""
        return TaskColumns(*(column[chosen_B] for column in msgspec.structs.astuple(self)))


def task_columns(samples: Samples, said: ByTask, popularity_BT: np.ndarray) -> TaskColumns:
    """What is logged of a block.

    Args:
        samples: B of them.
        said: what the learner said of each task.
        popularity_BT: what popularity says of each.
    """
    rows, tasks = samples.rows_B, np.arange(said.predictions_BT.shape[1])
    is_other_BT = (rows["kind"] == SampleKind.TASK_CORRECTION)[:, None] & (rows["task"][:, None] != tasks)
    columns = said.predictions_BT, said.ranks_BT, popularity_BT
    return TaskColumns(*(np.where(is_other_BT, np.nan, column).astype(np.float32) for column in columns))


def names_of(task: str) -> list[str]:
    """Names of a task's columns, in the order of `TaskColumns`.

    >>> names_of("buy")
    ['probability:buy', 'rank:buy', 'popularity:buy']
    """
    return [f"{first}:{task}" for first, _ in _COLUMNS]


def learned_in(predictions: pl.DataFrame, task: str) -> bool:
    """Whether a log has predictions of a task besides the main one."""
    return set(names_of(task)) <= set(predictions.columns)


def of_task(predictions: pl.DataFrame, task: str) -> pl.DataFrame:
    """The log as if the task were the main one, as far as predictions go: its own stand in the main one's columns."""
    return predictions.with_columns(
        pl.col(f"{first}:{task}").alias(name) for first, name in _COLUMNS if learned_in(predictions, task)
    )


def labels_of_task(predictions: pl.DataFrame, number: int, task: str) -> pl.DataFrame:
    """The rows that bring a label of a task, as if it were the main one: kind, label, prediction.

    A positive that comes in a sample of its own is a correction here, also where no negative was told before it.

    Args:
        predictions: rows of the log.
        number: of the task.
        task: its name.
    """
    bit, kind = 1 << number, pl.col("kind")
    is_later = (kind == int(SampleKind.TASK_CORRECTION)) & (pl.col("task") == number)
    is_base = kind.is_in(_BASE) & (pl.col("known") & bit > 0)
    label = pl.when(is_later).then("label").otherwise((pl.col("labels") & bit > 0).cast(pl.Int8))
    rows = of_task(predictions, task).filter(is_later | is_base)
    told = pl.when(is_later & (label > 0)).then(int(SampleKind.CORRECTION)).otherwise(label)
    return rows.with_columns(kind=told.cast(pl.Int8), label=label)
