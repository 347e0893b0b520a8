"""The log of predictions made before learning: one Parquet file per checkpoint.

A file is complete before its checkpoint is, and files newer than the checkpoint that a learner resumes from are
removed: so the log holds each trained sample exactly once, whatever was killed in between.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Annotated, get_type_hints

import msgspec
import numpy as np
import polars as pl

from learner.files import forget_parts, remove, write_whole
from learner.sample import Sample, SampleKind

_PRIOR_WEIGHT = 5.0


class Logged(msgspec.Struct, frozen=True):
    """What is logged of a micro-batch of B samples: the columns of a file, with their types there, B values each.

    By column, not by sample: the columns are what a file is written from, and what the meter sums up.
    """

    partition: Annotated[list[int], pl.Int32]
    sequence: Annotated[list[int], pl.Int64]
    imp_id: Annotated[list[str], pl.String]
    user_id: Annotated[list[str], pl.String]
    item_id: Annotated[list[str], pl.String]
    ts: Annotated[list[int], pl.Int64]
    kind: Annotated[list[int], pl.Int8]
    label: Annotated[list[int], pl.Int8]
    prediction: Annotated[np.ndarray, pl.Float32]
    baseline: Annotated[np.ndarray, pl.Float32]
    user_impressions: Annotated[list[int], pl.Int32]
    item_impressions: Annotated[list[int], pl.Int32]
    version: Annotated[list[int], pl.Int32]
    negative_rate: Annotated[list[float], pl.Float32]
    user_first_ts: Annotated[list[int], pl.Int64]
    labels: Annotated[list[int], pl.UInt8]
    """Bit t: the label of task t, if it is known."""
    known: Annotated[list[int], pl.UInt8]
    """Bit t: whether it is; 0 where there is one task only."""
    task: Annotated[list[int], pl.Int8]
    """The task that a sample is about."""


_SCHEMA: dict[str, type[pl.DataType]] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Logged, include_extras=True).items()
}

SampleKey = tuple[str, int, int, int]


def sample_key(sample: Sample) -> SampleKey:
    """What tells samples apart, in whatever order they come: the impression, and which of its labels it says."""
    if sample.kind is SampleKind.TASK_CORRECTION:
        return sample.core.imp_id, int(sample.kind), sample.task, sample.label
    return sample.core.imp_id, int(sample.kind is SampleKind.CORRECTION), 0, 0


def item_mean_baseline(item_counts_BC: np.ndarray, positive: Sequence[int] = (0,), prior: float = 0.5) -> np.ndarray:
    """Popularity baseline: the item's mean label as of the impression, shrunk to `prior` by five pseudo-impressions.

    Args:
        item_counts_BC: the item's counts that the samples carry: impressions, then one count per action.
        positive: the actions that make the label 1.
        prior: what an item without impressions gets.
    """
    positives = sum(item_counts_BC[:, 1 + action] for action in positive)
    means: np.ndarray = (positives + _PRIOR_WEIGHT * prior) / (item_counts_BC[:, 0] + _PRIOR_WEIGHT)
    clipped: np.ndarray = np.minimum(means, 1.0)
    return clipped


def log_columns(
    taken: Sequence[tuple[int, int, Sample]], predictions_B: np.ndarray, baselines_B: np.ndarray, version: int
) -> Logged:
    """What is logged of a micro-batch: (partition, sequence, sample) each, its prediction and the baseline's."""
    cores = [sample.core for _, _, sample in taken]
    states = [sample.state for _, _, sample in taken]
    return Logged(
        partition=[partition for partition, _, _ in taken],
        sequence=[sequence for _, sequence, _ in taken],
        imp_id=[core.imp_id for core in cores],
        user_id=[core.user_id for core in cores],
        item_id=[core.item_id for core in cores],
        ts=[core.ts for core in cores],
        kind=[int(sample.kind) for _, _, sample in taken],
        label=[sample.label for _, _, sample in taken],
        prediction=predictions_B,
        baseline=baselines_B,
        user_impressions=[state.user_counts[0] for state in states],
        item_impressions=[state.item_counts[0] for state in states],
        version=[version] * len(taken),
        negative_rate=[state.negative_rate for state in states],
        user_first_ts=[state.user_first_ts for state in states],
        labels=[sample.labels for _, _, sample in taken],
        known=[sample.known for _, _, sample in taken],
        task=[sample.task for _, _, sample in taken],
    )


class PredictionLog:
    """Collects predictions and writes them out in numbered files.

    Args:
        folder: where the files lie.
        keep: newest files kept.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._waiting: list[Logged] = []
        """What is in no file of a durable checkpoint."""

    def append(self, logged: Logged) -> None:
        """Take the predictions of one micro-batch in."""
        self._waiting.append(logged)

    def _frame(self) -> pl.DataFrame:
        """What waits to be durable."""
        columns = []
        for name, kind in _SCHEMA.items():
            parts = [getattr(logged, name) for logged in self._waiting]
            whole = np.concatenate(parts) if parts and isinstance(parts[0], np.ndarray) else list(chain(*parts))
            columns.append(pl.Series(name, whole, dtype=kind))
        return pl.DataFrame(columns)

    def learned_behind(self, partition: int, sequence: int) -> set[SampleKey]:
        """Keys of the samples of a partition that were learned behind a sequence number."""
        behind = (pl.col("partition") == partition) & (pl.col("sequence") > sequence)
        of_task = pl.col("kind") == int(SampleKind.TASK_CORRECTION)
        kind = pl.when(of_task).then("kind").otherwise((pl.col("kind") == int(SampleKind.CORRECTION)).cast(pl.Int8))
        rows = pl.concat([read_predictions(self._folder), self._frame()]).filter(behind)
        keys = rows.select("imp_id", kind, *(pl.when(of_task).then(name).otherwise(0) for name in ("task", "label")))
        return set(keys.iter_rows())

    def flush(self, number: int) -> None:
        """Write what was collected as file `number`; also when it is nothing.

        It is kept until `durable`: a checkpoint that cannot be written comes again, with more, under the same number.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        written = BytesIO()
        self._frame().write_parquet(written)
        write_whole(self._folder / f"{number:012d}.parquet", [written.getbuffer()])

    def durable(self) -> None:
        """The checkpoint of the last file is durable."""
        self._waiting = []
        remove(sorted(self._folder.glob("*.parquet"))[: -self._keep])

    def rewind(self, number: int) -> None:
        """Forget everything behind checkpoint `number`."""
        self._waiting = []
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
    if not files:
        return pl.DataFrame(schema=_SCHEMA)
    # Files of an earlier version lack columns.
    whole = pl.concat([pl.DataFrame(schema=_SCHEMA), *map(pl.read_parquet, files)], how="diagonal")
    return whole.with_columns(pl.col("labels", "known", "task").fill_null(0))


def read_user(files: Sequence[Path], user_id: str) -> pl.DataFrame:
    """One user's part of some files of the log; the others' is never put together."""
    if not files:
        return pl.DataFrame(schema=_SCHEMA)
    return pl.scan_parquet(list(files)).filter(pl.col("user_id") == user_id).collect()


def matured(predictions: pl.DataFrame, task: int | None = None) -> pl.DataFrame:
    """One row per impression, with the prediction of its base sample and its final label.

    A correction makes the label of its negative 1: metrics are taken on matured labels only.

    Args:
        predictions: rows of the log.
        task: index of the task whose labels are wanted, if it is not the main one; impressions whose label is not
            known yet are left out. The prediction is the main task's all the same.
    """
    kind = pl.col("kind")
    base = predictions.filter(kind.is_in([int(SampleKind.NEGATIVE), int(SampleKind.POSITIVE)]))
    if task is None:
        later = predictions.filter(kind == int(SampleKind.CORRECTION)).select("imp_id", later=pl.lit(1, pl.Int8))
        known = pl.col("label")
    else:
        of_task = (kind == int(SampleKind.TASK_CORRECTION)) & (pl.col("task") == task)
        # At most two: not in time, and then all the same.
        later = predictions.filter(of_task).group_by("imp_id").agg(later=pl.col("label").max())
        bit = 1 << task
        known = pl.when(pl.col("known") & bit > 0).then((pl.col("labels") & bit > 0).cast(pl.Int8))
    joined = base.join(later, on="imp_id", how="left", maintain_order="left")
    return joined.with_columns(label=pl.coalesce("later", known)).drop("later").drop_nulls("label")
