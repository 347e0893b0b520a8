"""Segments into one: of each row what was written last; of everything that is written whole, the last.

Legend: R rows of a table, N rows of a segment, K keys.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from learner.checkpoints.segment import Column, Segment, column_of, read_segment, write_segment
from learner.named import below
from learner.tables.admission import counted_on
from learner.tables.rows import NEXT
from learner.tables.saved import FILTER, VALUES

_STEP = 1 << 16
"""Rows of a table that are put together at a time."""
_NOBODY, _GONE = -1, -2
_MOST_OF_BASE = 0.5
"""The others are merged into the first once they are so large, beside it."""
_TIMES_LARGER = 4
"""Others are merged among themselves once those behind one are so much larger than it: a change is written again some
logarithm of times, and some dozens of segments make up a checkpoint at most."""
_BY_ROW = ("rows", "keys", "fields", "last_ts")


def due(segments: Sequence[Segment]) -> int | None:
    """The first of those at the end that ought to become one; None if all may stay as they are.

    >>> of = lambda *sizes: [Segment("", size, "") for size in sizes]
    >>> due(of(100)), due(of(100, 10, 10)), due(of(100, 30, 20)), due(of(1000, 10, 20, 20)), due(of(1000, 50, 1, 2, 2))
    (None, None, 0, 1, 2)
    """
    sizes = [segment.num_bytes for segment in segments]
    if len(sizes) > 1 and sum(sizes[1:]) >= _MOST_OF_BASE * sizes[0]:
        return 0
    return next((n for n in range(1, len(sizes) - 1) if sum(sizes[n + 1 :]) >= _TIMES_LARGER * sizes[n]), None)


def merge(
    folder: Path, segments: Sequence[Segment], *, whole: bool, at: Callable[[str], None] = lambda _: None
) -> Segment:
    """Write one segment that says what several said, one after the other; they stay.

    Args:
        folder: where they lie.
        segments: in their order.
        whole: whether the first holds the whole tables, and so will the new one.
        at: is told of each step, so that tests can die there.

    Raises:
        DamagedError: one of them is not what was written.
        OSError: it cannot be written; nothing of it stays.
    """
    columns = merged([read_segment(folder, segment) for segment in segments], whole=whole)
    stem = segments[-1].name.split("-")[0]
    at("merge.before_write")
    segment = write_segment(
        folder,
        f"{stem}-merged",
        columns,
        half_written=lambda: at("merge.half_written"),
        before_rename=lambda: at("merge.before_rename"),
    )
    at("merge.written")
    return segment


def merged(parts: Sequence[Mapping[str, np.ndarray]], *, whole: bool) -> dict[str, Column]:
    """Columns that say what several parts said, one after the other; see `merge`."""
    last, columns = parts[-1], dict[str, Column]()
    prefixes = [name.removesuffix("last_ts") for name in last if name == "last_ts" or name.endswith(".last_ts")]
    for prefix in prefixes:
        table = _Table([below(prefix, part) for part in parts], whole=whole)
        columns |= {prefix + name: column for name, column in table.columns().items()}
    others = {name: array for name, array in last.items() if not name.startswith(tuple(prefixes))}
    return columns | {name: column_of(array) for name, array in others.items()}


class _Table:
    """One table over several parts; their rows are ascending.

    Args:
        parts: what each says of it.
        whole: whether the first says everything.
    """

    def __init__(self, parts: Sequence[Mapping[str, np.ndarray]], *, whole: bool) -> None:
        self._parts = parts
        self._whole = whole
        end = int(parts[-1]["counters"][NEXT])
        self._owner_R = np.full(end, _NOBODY, np.int16)
        """The part that has the last word on a row."""
        for n, part in enumerate(parts):
            self._owner_R[part["rows"]] = n
            self._owner_R[part["gone"]] = _GONE
        self._begins = range(0, end, _STEP)
        edges = [*self._begins, end]
        self._bounds = [np.searchsorted(part["rows"], edges) for part in parts]

    def columns(self) -> dict[str, Column]:
        """All that a part says of a table."""
        parts = self._parts
        num_rows = int(np.count_nonzero(self._owner_R >= 0))
        names = [*_BY_ROW, *(name for name in parts[-1] if name.startswith(VALUES))]
        columns = {}
        for name in names:
            like = parts[-1][name]
            columns[name] = Column(like.dtype, (num_rows, *like.shape[1:]), partial(self._pieces, name))
        gone_N = np.zeros(0, np.int32) if self._whole else np.flatnonzero(self._owner_R == _GONE).astype(np.int32)
        free_from, free = _free(parts)
        said = {
            "gone": gone_N,
            "free": free,
            "free_from": np.array([free_from], np.int64),
            "counters": parts[-1]["counters"],
        } | {FILTER + name: array for name, array in _filter([below(FILTER, part) for part in parts]).items()}
        return columns | {name: column_of(array) for name, array in said.items()}

    def _pieces(self, name: str) -> Iterator[np.ndarray]:
        for step, begin in enumerate(self._begins):
            owner_S = self._owner_R[begin : begin + _STEP]
            is_used_S = owner_S >= 0
            if name == "rows":
                yield (begin + np.flatnonzero(is_used_S)).astype(np.int32)
                continue
            place_S = np.cumsum(is_used_S) - 1
            like = self._parts[-1][name]
            piece = np.empty((int(place_S[-1]) + 1, *like.shape[1:]), like.dtype)
            for n, part in enumerate(self._parts):
                of = slice(*self._bounds[n][step : step + 2])
                rows_N = part["rows"][of] - begin
                is_last_N = owner_S[rows_N] == n
                piece[place_S[rows_N[is_last_N]]] = part[name][of][is_last_N]
            yield piece


def _free(parts: Sequence[Mapping[str, np.ndarray]]) -> tuple[int, np.ndarray]:
    """The free rows from some place on: each part replaces what lies behind its own."""
    begin, free = int(parts[0]["free_from"][0]), parts[0]["free"]
    for part in parts[1:]:
        replaced = int(part["free_from"][0])
        free = np.concatenate([free[: max(0, replaced - begin)], part["free"]])
        begin = min(begin, replaced)
    return begin, free


def _filter(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The admission filter's cells, if any part has them, else the keys that were counted."""
    have_cells = [n for n, part in enumerate(parts) if "cells" in part]
    begin = have_cells[-1] + 1 if have_cells else 0
    noted_K = np.concatenate([np.zeros(0, np.uint64), *(part["noted"] for part in parts[begin:])])
    if have_cells:
        return counted_on(parts[have_cells[-1]], noted_K)
    return {"noted": noted_K, "counters": parts[-1]["counters"], "size": parts[-1]["size"]}
