"""Points of the page's curves: neighbouring buckets put together, and kept for the next time."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from stream.monitor.figures.bucket import Bucket
from stream.monitor.figures.intervals import Estimate

K = TypeVar("K")
S = TypeVar("S")
T = TypeVar("T")

MAX_POINTS = 100
METRICS = ("auc", "uauc", "rank_uauc", "ne", "calibration", "log_loss", "rate", "benefit")


def window(buckets: Sequence[Bucket], seconds: float) -> list[Bucket]:
    """The buckets that end within so many seconds of the newest one's end."""
    since = buckets[-1].end_ms - seconds * 1000 if buckets else 0
    return [bucket for bucket in buckets if bucket.end_ms > since]


def groups(buckets: Sequence[Bucket], points: int = MAX_POINTS) -> list[list[Bucket]]:
    """Neighbours put together until there are no more than so many groups."""
    size = -(-len(buckets) // points) if buckets else 1
    return [list(buckets[at : at + size]) for at in range(0, len(buckets), size)]


class Point(msgspec.Struct, frozen=True):
    """A point of a run's curves; all but the newest stay what they are."""

    end_ms: int
    last_ts: int
    version: int
    rows: list[dict[str, Any]]
    """By cohort."""


PointKey = tuple[int, int, int, float]


def key_of(group: Sequence[Bucket]) -> PointKey:
    """Tells the point of a group of buckets from others."""
    return group[0].start_ms, group[-1].end_ms, len(group), group[-1].num_samples


def kept(held: OrderedDict[K, T], key: K, make: Callable[[], T], most: int) -> T:
    """What is kept under a key, made if there is nothing; of everything kept, the last used `most` stay."""
    found = held.pop(key) if key in held else make()
    held[key] = found
    if len(held) > most:
        held.popitem(last=False)
    return found


class Grown(Generic[S]):
    """Keeps a sum up to date with a list of buckets.

    Args:
        start: an empty sum, for buckets like the one given.
        add: takes the next bucket in.
    """

    def __init__(self, start: Callable[[Bucket], S], add: Callable[[S, Bucket], object]) -> None:
        self._start = start
        self._add = add
        self._buckets: list[Bucket] = []
        self._sum: S | None = None

    def over(self, buckets: Sequence[Bucket]) -> S:
        """The sum over at least one bucket; begun anew if they are not those of last time and some more."""
        known = self._buckets
        is_longer = len(buckets) >= len(known) and all(a is b for a, b in zip(known, buckets, strict=False))
        if self._sum is None or not is_longer:
            known, self._sum = [], self._start(buckets[0])
        for bucket in buckets[len(known) :]:
            self._add(self._sum, bucket)
        self._buckets = list(buckets)
        return self._sum


def point_of(newest: Bucket, table: Sequence[dict[str, Any]]) -> Point:
    """The point of a table of figures, as of the newest bucket in it."""
    rows = [
        {
            "samples": row["samples"],
            "user_norm": row.get("user_norm"),
            **{metric: rounded(row[metric]) for metric in METRICS},
        }
        for row in table
    ]
    return Point(newest.end_ms, newest.last_ts, newest.version, rows)


def rounded(estimate: Estimate) -> list[float | None]:
    """Value, low, high: as much of them as can be seen, since a series has thousands."""
    return [None if x is None else round(x, 5) for x in (estimate.value, estimate.low, estimate.high)]
