"""Records of one call as columns, which are read as rows where somebody wants rows.

Legend: N records.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isnan
from typing import overload

import numpy as np

from stream.join.kernels.words import FEEDBACK, IMPRESSION
from stream.join.memory.ids import Texts

Row = tuple[int | str | float, ...]
"""A record in the form that `lua/apply` documents."""
_ID, _VALUE_AT = 3, 7
_IDS = slice(_ID, 6)


class RecordColumns(Sequence[Row]):
    """Records of one call.

    Args:
        kinds_N: uint8; kinds of records.
        offsets_N: int64.
        ts_N: int64; event times, 0 where there is none.
        what_N: int64; bytes of an impression's core; which action, from 1.
        values_N: float64; values of feedback, NaN for none.
        ids_N32: int64; where in `text` ids of impression, user and item are.
        text: UTF-8.
    """

    def __init__(
        self,
        kinds_N: np.ndarray,
        offsets_N: np.ndarray,
        ts_N: np.ndarray,
        what_N: np.ndarray,
        values_N: np.ndarray,
        ids_N32: np.ndarray,
        text: bytes,
    ) -> None:
        self.kinds_N, self.offsets_N, self.ts_N, self.what_N, self.values_N = kinds_N, offsets_N, ts_N, what_N, values_N
        self.ids_N32, self.text = ids_N32, text

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[object]]) -> "RecordColumns":
        """Rows as columns.

        >>> rows = [(1, 7, 5000, "a", "u", "i", 20), (3, 8, 5001), (2, 9, 5002, "a", "u", "i", 1, 2.5)]
        >>> list(RecordColumns.of_rows(rows)) == rows
        True
        """
        num = len(rows)
        ids_N32 = np.zeros((num, 3, 2), np.int64)
        found = cls(
            np.array([row[0] for row in rows], np.uint8),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.int64),
            np.zeros(num, np.int64),
            np.full(num, np.nan),
            ids_N32,
            b"",
        )
        found.put_rows(np.flatnonzero(found.are_events), [row for row in rows if row[0] in (IMPRESSION, FEEDBACK)])
        return found

    @property
    def are_events(self) -> np.ndarray:
        """Which of them are impressions or feedback."""
        are_events: np.ndarray = (self.kinds_N == IMPRESSION) | (self.kinds_N == FEEDBACK)
        return are_events

    def put_rows(self, which: Sequence[int] | np.ndarray, rows: Sequence[Sequence[object]]) -> None:
        """Have these records be what rows say: impressions and feedback."""
        if not len(which):
            return
        texts = [str(text).encode() for row in rows for text in row[_IDS]]
        ends = np.array([*accumulate(map(len, texts), initial=len(self.text))], np.int64)
        self.text += b"".join(texts)
        at = np.asarray(which)
        self.ids_N32[at, :, 0], self.ids_N32[at, :, 1] = ends[:-1].reshape(-1, 3), ends[1:].reshape(-1, 3)
        self.kinds_N[at], self.ts_N[at] = [row[0] for row in rows], [row[2] for row in rows]
        self.what_N[at] = [row[6] for row in rows]
        # False is where none was given.
        values = [row[_VALUE_AT] if len(row) > _VALUE_AT else False for row in rows]
        self.values_N[at] = [np.nan if value is False else value for value in values]

    def ids(self, which: int, where: np.ndarray | None = None) -> Texts:
        """Ids of impressions (0), users (1) or items (2).

        Args:
            which: of these.
            where: of these records; default: of all.
        """
        spans_K2 = self.ids_N32[:, which] if where is None else self.ids_N32[where, which]
        return Texts(np.frombuffer(self.text or b"\0", np.uint8), np.ascontiguousarray(spans_K2))

    def rows(self, which: np.ndarray) -> list[Row]:
        """Some of them as rows, in little more time than one."""
        numbers = [column[which].tolist() for column in (self.kinds_N, self.offsets_N, self.ts_N)]
        ids = [self.ids(k, which).several(0, len(which)) for k in range(3)]
        values = self.values_N[which].tolist()
        found = []
        for *row, value in zip(*numbers, *ids, self.what_N[which].tolist(), values, strict=True):
            if row[0] not in (IMPRESSION, FEEDBACK):
                del row[_ID:]
            elif not isnan(value):
                row.append(value)
            found.append(tuple(row))
        return found

    def __len__(self) -> int:
        return len(self.kinds_N)

    @overload
    def __getitem__(self, n: int) -> Row: ...
    @overload
    def __getitem__(self, n: slice) -> list[Row]: ...
    def __getitem__(self, n: int | slice) -> Row | list[Row]:
        if isinstance(n, slice):
            return self.rows(np.arange(*n.indices(len(self))))
        return self.rows(np.array([range(len(self))[n]]))[0]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows(np.arange(len(self))))
