"""A sum over a history that grows at its end: what was added up before is not added up again."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from stream.monitor.figures.bucket import Bucket

S = TypeVar("S")


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
