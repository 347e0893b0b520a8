"""What a worker reads that has a log to catch up with: runs of records of one topic partition."""

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from simulators.encoding import LogEntry
from stream.ingest.rows import LogRecord
from stream.settings import Settings


def now_ms() -> int:
    """Wall clock."""
    return time.time_ns() // 1_000_000


class Batches:
    """Cuts what was written into batches of at most `worker.batch` records, and numbers them.

    Args:
        settings: of the pipeline.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next: dict[tuple[int, int], int] = {}

    def of(self, entries: Sequence[LogEntry]) -> Iterator[tuple[str, int, list[LogRecord]]]:
        """Topic, partition and records of each."""
        size, at = self._settings.worker.batch, now_ms()
        # Stable: the order within a topic partition stays that of the log.
        placed = sorted(entries, key=lambda entry: (entry.topic, entry.partition))
        for place, together in groupby(placed, key=lambda entry: (entry.topic, entry.partition)):
            first, values = self._next.get(place, 0), [entry.value for entry in together]
            self._next[place] = first + len(values)
            records = [LogRecord(first + n, value, at) for n, value in enumerate(values)]
            for begin in range(0, len(records), size):
                yield self._settings.topics[place[0]], place[1], records[begin : begin + size]
