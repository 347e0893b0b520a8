"""What is logged of a prediction, as columns."""

from collections.abc import Sequence
from itertools import compress
from typing import Annotated, Any, get_type_hints

import msgspec
import numpy as np
import polars as pl

from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from stream.served import SERVED_SCHEMA, ServedColumns, served_columns
from stream.task_columns import TaskColumns

_PRIOR_WEIGHT = 5.0


class Logged(msgspec.Struct, frozen=True):
    """What is logged of a block of B samples: the columns of a file, with their types there, B values each.

    By column, not by sample: the columns are what a file is written from, and what the meter sums up.
    """

    partition: Annotated[np.ndarray, pl.Int32]
    sequence: Annotated[np.ndarray, pl.Int64]
    imp_id: Annotated[list[str], pl.String]
    user_id: Annotated[list[str], pl.String]
    item_id: Annotated[list[str], pl.String]
    ts: Annotated[np.ndarray, pl.Int64]
    kind: Annotated[np.ndarray, pl.Int8]
    label: Annotated[np.ndarray, pl.Int8]
    prediction: Annotated[np.ndarray, pl.Float32]
    """Probability of the main task's label; NaN where a sample is about another task."""
    rank_score: Annotated[np.ndarray, pl.Float32]
    """The logit without what is said by the user alone: what a user's candidates are ordered by."""
    baseline: Annotated[np.ndarray, pl.Float32]
    user_impressions: Annotated[np.ndarray, pl.Int32]
    item_impressions: Annotated[np.ndarray, pl.Int32]
    version: Annotated[np.ndarray, pl.Int32]
    negative_rate: Annotated[np.ndarray, pl.Float32]
    user_first_ts: Annotated[np.ndarray, pl.Int64]
    labels: Annotated[np.ndarray, pl.UInt8]
    """Bit t: the label of task t, if it is known."""
    known: Annotated[np.ndarray, pl.UInt8]
    """Bit t: whether it is; 0 where there is one task only."""
    task: Annotated[np.ndarray, pl.Int8]
    """The task that a sample is about."""
    served: ServedColumns
    """What a scorer served, where one did; a column each in the file."""
    by_task: TaskColumns | None = None
    """Of every task, where all of them are learned; a column each in the file."""

    def __len__(self) -> int:
        return len(self.imp_id)

    def take(self, chosen_B: np.ndarray) -> "Logged":
        """Those where `chosen_B` (booleans) is true."""
        wanted = chosen_B.tolist()
        columns: list[Any] = [
            column[chosen_B] if isinstance(column, np.ndarray) else list(compress(column, wanted))
            for column in msgspec.structs.astuple(self)[:-2]
        ]
        by_task = None if self.by_task is None else self.by_task.take(chosen_B)
        columns += [self.served.take(chosen_B), by_task]
        return Logged(*columns)


OWN: dict[str, type[pl.DataType]] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Logged, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
SCHEMA = OWN | SERVED_SCHEMA

SampleKey = tuple[str, int, int, int]
BY_TASK = int(SampleKind.TASK_CORRECTION)
"""Kind of a sample that is about another task than the main one."""


def sample_keys(samples: Samples) -> list[SampleKey]:
    """What tells samples apart, in whatever order they come: the impression, and which of its labels each says."""
    rows = samples.rows_B
    kinds, of_task = rows["kind"], rows["kind"] == BY_TASK
    # An impression has one base sample, whatever it says.
    whats = np.where(kinds == SampleKind.POSITIVE, 0, np.where(kinds == SampleKind.CORRECTION, 1, kinds))
    tasks, labels = np.where(of_task, rows["task"], 0), np.where(of_task, rows["label"], 0)
    return list(zip(samples.imp_ids, whats.tolist(), tasks.tolist(), labels.tolist(), strict=True))


def item_mean_baseline(item_counts_BC: np.ndarray, positive: Sequence[int] = (0,), prior: float = 0.5) -> np.ndarray:
    """Popularity baseline: the item's mean label as of the impression, shrunk to `prior` by five pseudo-impressions.

    Args:
        item_counts_BC: the item's counts that the samples carry: impressions, then one count per action.
        positive: the actions that make the label 1.
        prior: what an item without impressions gets.
    """
    counts_BC = item_counts_BC.astype(np.float32)
    positives = sum(counts_BC[:, 1 + action] for action in positive)
    means = (positives + _PRIOR_WEIGHT * prior) / (counts_BC[:, 0] + _PRIOR_WEIGHT)
    clipped: np.ndarray = np.minimum(means, 1.0)
    return clipped


def log_columns(
    samples: Samples,
    places_2B: tuple[np.ndarray, np.ndarray],
    predictions_B: np.ndarray,
    ranks_B: np.ndarray,
    baselines_B: np.ndarray,
    version: int,
    by_task: TaskColumns | None = None,
) -> Logged:
    """What is logged of a block.

    Args:
        samples: B of them.
        places_2B: partition and sequence number of each.
        predictions_B: probabilities.
        ranks_B: rank scores.
        baselines_B: the baseline's probabilities.
        version: weights last published.
        by_task: of every task, where all of them are learned.
    """
    rows = samples.rows_B
    of_task = rows["kind"] == BY_TASK
    return Logged(
        partition=places_2B[0],
        sequence=places_2B[1],
        imp_id=samples.imp_ids,
        user_id=samples.user_ids,
        item_id=samples.item_ids,
        ts=rows["ts"],
        kind=rows["kind"],
        label=rows["label"],
        prediction=np.where(of_task, np.nan, predictions_B),
        rank_score=np.where(of_task, np.nan, ranks_B),
        baseline=np.where(of_task, np.nan, baselines_B),
        user_impressions=rows["user_counts"][:, 0],
        item_impressions=rows["item_counts"][:, 0],
        version=np.full(len(samples), version, np.int32),
        negative_rate=rows["negative_rate"],
        user_first_ts=rows["user_first_ts"],
        labels=rows["labels"],
        known=rows["known"],
        task=rows["task"],
        served=served_columns(rows),
        by_task=by_task,
    )
