"""What the wall clock does in a live run: time goes on where nobody writes.

A live worker lets a topic that is read to its end go on by the clock once it has been quiet for `worker.idle_after_ms`.
A backtest has no clock; but each entry says when it is written, so the topics of its partition can be told before it
is read. Otherwise a label would wait for whoever comes next, and what is predicted when an impression passes would look
worse than it is.
"""

from collections.abc import Iterable, Iterator

from simulators.encoding import LogEntry
from stream.events import Heartbeat, encode_event

_TOPICS = (0, 1)


def with_quiet_told(entries: Iterable[LogEntry], idle_ms: int) -> Iterator[LogEntry]:
    """The entries, each behind heartbeats to the topics of its partition that have been quiet.

    A heartbeat lags `idle_ms` behind, as the clock does, and a topic has one no sooner than that behind what it was
    written or told last.

    Args:
        entries: in the order in which they are written.
        idle_ms: quiet for so long, a topic goes on in time; 0: never.

    >>> rows = [LogEntry(0, 3, b"u", b"{}", written_ms) for written_ms in (0.0, 5_000.0, 70_000.0)]
    >>> [(e.topic, e.value) for e in with_quiet_told(rows, 10_000) if e.key is None]
    [(0, b'{"type":"heartbeat","ts":60000}'), (1, b'{"type":"heartbeat","ts":60000}')]
    """
    known: dict[tuple[int, int], float] = {}
    for entry in entries:
        partition, told_ms = entry.partition, entry.written_ms - idle_ms
        if idle_ms:
            for topic in _TOPICS:
                # One that nobody has written to yet does not hold the other back either.
                if told_ms - known.setdefault((topic, partition), entry.written_ms) >= idle_ms:
                    known[topic, partition] = told_ms
                    yield LogEntry(topic, partition, None, encode_event(Heartbeat(ts=int(told_ms))), entry.written_ms)  # type: ignore[arg-type]
        known[entry.topic, partition] = entry.written_ms
        yield entry
