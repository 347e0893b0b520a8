"""Sorted sources -> one by time, in constant memory; files that are not sorted become sorted runs on disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl

SLICE_ROWS = 1 << 14
"""Rows of a run that are held at a time."""
Frames = Callable[[], Iterator[pl.DataFrame]]


class Source(msgspec.Struct, frozen=True):
    """Rows by time, readable from the beginning as often as wished."""

    frames: Frames
    first_ts: int
    """Of its first row: it is not opened before the merge has come there."""


def merge(sources: Sequence[Source]) -> Iterator[pl.DataFrame]:
    """All rows by `ts`; of equal ones, those of an earlier source first, and each source's own in their order.

    It holds one frame of each source that is open, whatever their number of equal times: what is handed on is bounded
    by time and source, (ts, n), and no later row of any source lies below the least of their last.
    """
    waiting = sorted(range(len(sources)), key=lambda n: (sources[n].first_ts, n), reverse=True)
    streams: dict[int, Iterator[pl.DataFrame]] = {}
    held: dict[int, pl.DataFrame] = {}

    def refill(n: int) -> None:
        for frame in streams[n]:
            if len(frame):
                held[n] = frame
                return
        held.pop(n, None)
        del streams[n]

    while waiting or held:
        bound = min(((int(frame["ts"][-1]), n) for n, frame in held.items()), default=None)
        while waiting and (bound is None or sources[waiting[-1]].first_ts <= bound[0]):
            n = waiting.pop()
            streams[n] = sources[n].frames()
            refill(n)
            bound = min(((int(frame["ts"][-1]), n) for n, frame in held.items()), default=None)
        if bound is None:
            continue
        ready = []
        for n in sorted(held):
            frame = held[n]
            end = int(frame["ts"].search_sorted(bound[0], side="right" if n <= bound[1] else "left"))
            if end:
                ready.append(frame[:end])
            held[n] = frame[end:]
        yield pl.concat(ready).sort("ts", maintain_order=True) if len(ready) > 1 else ready[0]
        for n in [n for n, frame in held.items() if not len(frame)]:
            refill(n)


def gathered(frames: Iterable[pl.DataFrame], num_rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of at least so many, but for the last."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= num_rows:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def sorted_runs(
    frames: Iterable[pl.DataFrame], folder: Path, name: str, run_rows: int, *, is_only: bool
) -> list[Source]:
    """Rows in any order -> sorted runs, in the order in which they were read.

    Args:
        frames: the rows.
        folder: where runs are written, as Parquet.
        name: of this source, unique in the folder.
        run_rows: rows of a run.
        is_only: there is no other source, so a single run may stay in memory.
    """
    runs: list[Source] = []
    held: list[pl.DataFrame] = []
    count = 0

    def close(*, last: bool) -> None:
        run = pl.concat(held).sort("ts", maintain_order=True)
        held.clear()
        if last and is_only and not runs:
            runs.append(Source(lambda: iter([run]), int(run["ts"][0])))
            return
        path = folder / f"{name}-{len(runs)}.parquet"
        run.write_parquet(path, compression="lz4", row_group_size=SLICE_ROWS, statistics=False)
        runs.append(_run(path, len(run), int(run["ts"][0])))

    for frame in frames:
        held.append(frame)
        count += len(frame)
        if count >= run_rows:
            close(last=False)
            count = 0
    if count:
        close(last=True)
    return runs


def _run(path: Path, num_rows: int, first_ts: int) -> Source:
    def frames() -> Iterator[pl.DataFrame]:
        for at in range(0, num_rows, SLICE_ROWS):
            yield pl.scan_parquet(path).slice(at, SLICE_ROWS).collect()

    return Source(frames, first_ts)
