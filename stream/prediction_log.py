"""The log of predictions made before learning: one Parquet file per checkpoint.

A file is complete before its checkpoint is, and files newer than the checkpoint that a learner resumes from are
removed: so the log holds each trained sample exactly once, whatever was killed in between.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import chain, compress
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
import numpy as np
import polars as pl

from learner.files import forget_parts, remove, write_whole
from learner.samples.columns import Samples
from learner.samples.kind import SampleKind
from stream.served import SERVED_SCHEMA, ServedColumns, served_columns, served_series
from stream.task_columns import TaskColumns, names_of

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


_OWN: dict[str, type[pl.DataType]] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Logged, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
_SCHEMA = _OWN | SERVED_SCHEMA

SampleKey = tuple[str, int, int, int]
_BY_TASK = int(SampleKind.TASK_CORRECTION)
_BY_TASK_SAID = ("prediction", "rank_score", "baseline")


def sample_keys(samples: Samples) -> list[SampleKey]:
    """What tells samples apart, in whatever order they come: the impression, and which of its labels each says."""
    rows = samples.rows_B
    kinds, of_task = rows["kind"], rows["kind"] == _BY_TASK
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
    of_task = rows["kind"] == _BY_TASK
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


class PredictionLog:
    """Collects predictions and writes them out in numbered files.

    Args:
        folder: where the files lie.
        keep: newest files kept.
        tasks: names of those that are learned, for their columns where these are all tasks.
    """

    def __init__(self, folder: Path, *, keep: int, tasks: Sequence[str] = ()) -> None:
        self._folder = folder
        self._keep = keep
        self._tasks = tuple(tasks)
        self._waiting, self._num_cut = list[Logged](), 0
        """What is in no file of a durable checkpoint, of which the first so many belong to the next one."""

    def append(self, logged: Logged) -> None:
        """Take the predictions of a block in."""
        self._waiting.append(logged)

    def _frame(self, waiting: Sequence[Logged]) -> pl.DataFrame:
        columns = []
        for name, kind in _OWN.items():
            parts = [getattr(logged, name) for logged in waiting]
            whole = np.concatenate(parts) if parts and isinstance(parts[0], np.ndarray) else list(chain(*parts))
            columns.append(pl.Series(name, whole).cast(kind) if len(whole) else pl.Series(name, [], dtype=kind))
        served = served_series([logged.served for logged in waiting])
        return pl.DataFrame(columns + served + self._of_tasks(waiting))

    def _of_tasks(self, waiting: Sequence[Logged]) -> list[pl.Series]:
        by_task = [logged.by_task for logged in waiting if logged.by_task is not None]
        if not by_task:
            return []
        wholes = [np.concatenate(parts) for parts in zip(*map(msgspec.structs.astuple, by_task), strict=True)]
        return [
            pl.Series(name, whole_BT[:, n])
            for n, task in enumerate(self._tasks)
            for name, whole_BT in zip(names_of(task), wholes, strict=True)
        ]

    def learned_behind(self, partition: int, sequence: int) -> set[SampleKey]:
        """Keys of the samples of a partition that were learned behind a sequence number."""
        behind = (pl.col("partition") == partition) & (pl.col("sequence") > sequence)
        kind, of_task = pl.col("kind"), pl.col("kind") == _BY_TASK
        what = kind.replace({int(SampleKind.POSITIVE): 0, int(SampleKind.CORRECTION): 1})
        rows = pl.concat([read_predictions(self._folder), self._frame(self._waiting)], how="diagonal").filter(behind)
        keys = rows.select("imp_id", what, *(pl.when(of_task).then(name).otherwise(0) for name in ("task", "label")))
        return set(keys.iter_rows())

    def flush(self, number: int) -> None:
        """Cut, and write."""
        self.cut()
        self.write(number)

    def cut(self) -> None:
        """What was collected so far belongs to the next checkpoint."""
        self._num_cut = len(self._waiting)

    def write(self, number: int) -> None:
        """Write what was cut as file `number`; if it cannot be (OSError), the file is as it was, and it comes again."""
        written = BytesIO()
        self._frame(self._waiting[: self._num_cut]).write_parquet(written)
        write_whole(self._folder / f"{number:012d}.parquet", [written.getbuffer()])

    def durable(self) -> None:
        """The checkpoint of the last file is durable."""
        del self._waiting[: self._num_cut]
        self._num_cut = 0
        remove(sorted(self._folder.glob("*.parquet"))[: -self._keep])

    def rewind(self, number: int) -> None:
        """Forget everything behind checkpoint `number`."""
        self._waiting, self._num_cut = [], 0
        forget_parts(self._folder)
        for path in self._folder.glob("*.parquet"):
            if int(path.stem) > number:
                path.unlink()


def prediction_files(folder: Path, *, newest: int | None = None) -> list[Path]:
    """Files of the log in the order of training: all, or the newest."""
    return sorted(folder.glob("*.parquet"))[-newest if newest else 0 :]


def read_predictions(folder: Path, *, newest: int | None = None) -> pl.DataFrame:
    """The log in the order of training: the whole, or its newest files."""
    files = prediction_files(folder, newest=newest)
    # Files of an earlier version lack columns.
    whole = pl.concat([pl.DataFrame(schema=_SCHEMA), *map(pl.read_parquet, files)], how="diagonal")
    return whole.with_columns(pl.col("labels", "known", "task").fill_null(0))


def read_user(files: Sequence[Path], user_id: str) -> pl.DataFrame:
    """One user's part of some files of the log; the others' is never put together."""
    if not files:
        return pl.DataFrame(schema=_SCHEMA)
    # Files of a model of other tasks have other columns behind the common ones.
    found = pl.scan_parquet(list(files), schema=_SCHEMA, missing_columns="insert", extra_columns="ignore")
    return found.filter(pl.col("user_id") == user_id).collect()


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
        of_task = (kind == _BY_TASK) & (pl.col("task") == task)
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
