"""The history in Redis: cohort buckets of each learner run, bounded, coarser where older; it survives restarts.

One hash per run, one field per checkpoint: what a learner writes before a checkpoint is overwritten when it dies before
the checkpoint is durable and learns the same samples again. So each sample is in the history exactly once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec
import redis

from state_store.client import script
from state_store.keys import Keys
from stream.monitor.figures.bucket import Bucket, merge
from stream.settings import Settings

COHORTS = "cohorts"
"""The series of the learner: the model beside popularity."""
TWIN = "twin"
"""The series of the frozen twin: the model beside weights of an age."""
SERVED = "served"
"""The series of what scorers served, beside what the learner says of the same impressions."""
_SERIES_KEPT = 8


def task_series(task: str) -> str:
    """The series of a task besides the main one."""
    return f"task-{task}"


_REVISION = b"revision"


def _encode(buckets: list[Bucket]) -> bytes:
    return msgspec.msgpack.encode([bucket.encode() for bucket in buckets])


def _decode(data: bytes) -> list[Bucket]:
    return [Bucket.decode(blob) for blob in msgspec.msgpack.decode(data, type=list[bytes])]


def pairwise_merged(buckets: list[Bucket]) -> list[Bucket]:
    """Each two neighbours as one."""
    return [merge(buckets[at : at + 2]) for at in range(0, len(buckets), 2)]


class HistoryWriter:
    """Writes one run's history.

    Args:
        client: Redis.
        prefix: of its keys.
        run: name of the run.
        number: the checkpoint that the learner resumed from; what lies behind it is forgotten.
        now_ms: wall clock; a run's first start gives it its place among the runs.
        max_buckets: buckets kept.
        max_runs: runs kept.
        series: what kind of figures.
        others: series of tasks that a run may have, which go with it.
    """

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        run: str,
        number: int,
        now_ms: int,
        *,
        max_buckets: int,
        max_runs: int,
        series: str = COHORTS,
        others: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._run = run
        self._series = series
        self._max_buckets = max_buckets
        self._replace = script(client, "replace_fields")
        self._sizes: dict[int, int] = {}
        found: Any = client.hgetall(self._key)
        self._revision = int(found.pop(_REVISION, 0))
        behind = []
        for field, data in found.items():
            if int(field) > number:
                behind.append(field)
            else:
                self._sizes[int(field)] = len(msgspec.msgpack.decode(data, type=list[bytes]))
        if behind:
            client.hdel(self._key, *behind)
            self._revise()
        client.zadd(self._keys.monitor_runs, {run: now_ms}, nx=True)
        surplus: Any = client.zrange(self._keys.monitor_runs, 0, -max_runs - 1)
        for old in surplus:
            for name in (COHORTS, TWIN, SERVED, *others):
                client.delete(self._keys.monitor_history(old.decode(), name))
            client.delete(self._keys.monitor_feed(old.decode()))
            client.zrem(self._keys.monitor_runs, old)

    @property
    def _key(self) -> str:
        return self._keys.monitor_history(self._run, self._series)

    @property
    def newest(self) -> int:
        """Number of the newest checkpoint in the history; 0 if there is none."""
        return max(self._sizes, default=0)

    def write(self, number: int, buckets: list[Bucket]) -> None:
        """Write the buckets that belong to checkpoint `number`, before it is made durable; then thin out the old."""
        if not buckets:
            return
        self._client.hset(self._key, str(number), _encode(buckets))
        self._sizes[number] = len(buckets)
        if sum(self._sizes.values()) > self._max_buckets:
            self._thin_out()
        self._revise()

    def _revise(self) -> None:
        """Let readers know that there is something new."""
        self._revision += 1
        self._client.hset(self._key, _REVISION, self._revision)

    def _thin_out(self) -> None:
        """Merge neighbours in the older half, field by field, and fields that have become short."""
        numbers = sorted(self._sizes)
        old = numbers[: max(2, len(numbers) // 2)]
        # The newest two belong to checkpoints that may not be durable yet.
        old = [number for number in old if number < numbers[-1] - 1]
        for first, second in zip(old[::2], old[1::2], strict=False):
            values: Any = self._client.hmget(self._key, [str(first), str(second)])
            buckets = pairwise_merged([bucket for data in values if data for bucket in _decode(data)])
            self._replace(keys=[self._key], args=[str(first), str(second), _encode(buckets)])
            del self._sizes[first]
            self._sizes[second] = len(buckets)


def open_history(
    settings: Settings, client: redis.Redis, run: str, number: int, now_ms: int, series: str = COHORTS
) -> HistoryWriter:
    """The writer of one of a run's series, bounded as the settings say; arguments as of `HistoryWriter`."""
    monitor = settings.monitor
    return HistoryWriter(
        client,
        settings.redis.prefix,
        run,
        number,
        now_ms,
        max_buckets=monitor.max_buckets,
        max_runs=monitor.max_runs,
        series=series,
        others=[task_series(task.name) for task in settings.labels],
    )


class _Known(msgspec.Struct, frozen=True):
    revision: Any
    decoded: dict[tuple[bytes, int], list[Bucket]]
    """By field and checksum."""
    buckets: list[Bucket]


class HistoryReader:
    """Reads runs' histories; what was decoded of the runs read last is kept."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def runs(self) -> list[str]:
        """Names of the runs, oldest first."""
        found: Any = self._client.zrange(self._keys.monitor_runs, 0, -1)
        return [name.decode() for name in found]

    def read(self, run: str, series: str = COHORTS) -> list[Bucket]:
        """A run's buckets of one series, oldest first; the same list as last time if nothing has changed since."""
        key = self._keys.monitor_history(run, series)
        revision = self._client.hget(key, _REVISION)
        known = self._known.pop((run, series), None)
        if known is None or known.revision != revision:
            known = self._fetch(key, known)
        self._known[run, series] = known
        if len(self._known) > _SERIES_KEPT:
            self._known.popitem(last=False)
        return known.buckets

    def _fetch(self, key: str, known: _Known | None) -> _Known:
        """Everything anew, of which only what has changed is decoded."""
        found: Any = self._client.hgetall(key)
        revision = found.pop(_REVISION, None)
        decoded = {}
        for field in sorted(found, key=int):
            as_it_is = field, crc32(found[field])
            before = known.decoded.get(as_it_is) if known else None
            decoded[as_it_is] = before or _decode(found[field])
        return _Known(revision, decoded, [bucket for buckets in decoded.values() for bucket in buckets])
