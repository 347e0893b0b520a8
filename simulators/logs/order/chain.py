"""Files that follow each other in time, as most logs have them."""

import polars as pl

from simulators.logs.order.duplicates import Duplicates


class Chain:
    """Counts rows that come by time, file after file; that they do is found out on the way."""

    def __init__(self) -> None:
        self.unbroken = True
        self.duplicates = Duplicates()
        self._num_rows, self._first, self._last = 0, 0, 0

    def add(self, rows: pl.DataFrame) -> None:
        """Rows that are sorted in themselves."""
        self.unbroken = self.unbroken and (not self._num_rows or rows["ts"][0] >= self._last)
        if self.unbroken:
            self.count(self.duplicates.drop(rows), int(rows["ts"][-1]))

    def count(self, rows: pl.DataFrame, last: int | None = None) -> None:
        """Rows of the log."""
        if len(rows):
            self._first = self._first if self._num_rows else int(rows["ts"][0])
            self._num_rows += len(rows)
        self._last = int(rows["ts"][-1]) if last is None else last

    def span(self) -> tuple[int, int, int]:
        """Rows, event time of the first and of the last."""
        return self._num_rows, self._first, self._last
