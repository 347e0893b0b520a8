"""The log of predictions made before learning: one Parquet file per checkpoint.

A file is complete before its checkpoint is, and files newer than the checkpoint that a learner resumes from are
removed: so the log holds each trained sample exactly once, whatever was killed in between.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from learner.files import forget_parts, remove, write_whole
from learner.samples.kind import SampleKind
from stream.predictions.columns import BY_TASK, OWN, SCHEMA, Logged, SampleKey
from stream.served import served_series
from stream.task_columns import names_of


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
        for name, kind in OWN.items():
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
        kind, of_task = pl.col("kind"), pl.col("kind") == BY_TASK
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
    whole = pl.concat([pl.DataFrame(schema=SCHEMA), *map(pl.read_parquet, files)], how="diagonal")
    return whole.with_columns(pl.col("labels", "known", "task").fill_null(0))


def read_user(files: Sequence[Path], user_id: str) -> pl.DataFrame:
    """One user's part of some files of the log; the others' is never put together."""
    if not files:
        return pl.DataFrame(schema=SCHEMA)
    # Files of a model of other tasks have other columns behind the common ones.
    found = pl.scan_parquet(list(files), schema=SCHEMA, missing_columns="insert", extra_columns="ignore")
    return found.filter(pl.col("user_id") == user_id).collect()
