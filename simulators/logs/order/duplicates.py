"""Exact duplicates, which a log by time has beside each other or among rows of the same time."""

import polars as pl

from simulators.logs.read.parts import HASHES

_KEY = ("ts", *HASHES)


class Duplicates:
    """Leaves out rows that are equal in all of their file's columns. It remembers those of the latest time."""

    def __init__(self) -> None:
        self.num_dropped = 0
        self._latest: pl.DataFrame | None = None

    def drop(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of a stretch, each the first of its kind; stretches are to come by time."""
        if not len(rows):
            return rows
        first = _first_of_each(rows)
        if self._latest is not None and self._latest["ts"][0] == first["ts"][0]:
            first = first.join(self._latest, on=_KEY, how="anti", maintain_order="left")
        self.num_dropped += len(rows) - len(first)
        latest = rows.select(_KEY).filter(pl.col("ts") == rows["ts"][-1])
        if self._latest is not None and self._latest["ts"][0] == latest["ts"][0]:
            latest = pl.concat([self._latest, latest]).unique()
        self._latest = latest
        return first


def _first_of_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Only rows of the same time can be equal, and most logs have few: the others are not looked at."""
    ts = rows["ts"]
    tied = ((ts == ts.shift(1)) | (ts == ts.shift(-1))).fill_null(False)
    if not tied.any():
        return rows
    at = tied.arg_true()
    is_first = rows.select(_KEY)[at].select(pl.struct(_KEY).is_first_distinct()).to_series()
    if is_first.all():
        return rows
    return rows.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(at.filter(~is_first).implode()))
