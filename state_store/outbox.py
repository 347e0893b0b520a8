"""The outbox: joined samples on their way from the worker to the learner."""

from collections.abc import Mapping

import redis

from state_store.keys import Keys
from state_store.records import OutboxEntry


class Outbox:
    """Reads joined samples behind a cursor, one sequence number per partition.

    An entry's stream id is `<sequence of its last sample>-0`, so the entries behind a cursor are exactly those that
    hold a sample not yet seen, even when the cursor lies inside an entry.
    """

    def __init__(self, client: redis.Redis, prefix: str, num_partitions: int) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self.num_partitions = num_partitions

    def read(self, cursor: Mapping[int, int], *, max_entries: int) -> list[OutboxEntry]:
        """Up to `max_entries` entries per partition behind `cursor` (partition -> last sequence seen)."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.xrange(self._keys.outbox(p), min=f"({cursor.get(p, 0)}-0", max="+", count=max_entries)
            found = pipe.execute()
        queues = [
            [OutboxEntry(p, int(entry_id.split(b"-")[0]), fields[b"s"]) for entry_id, fields in entries]
            for p, entries in enumerate(found)
        ]
        # Round robin: no partition's samples run far ahead of another's.
        return [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]

    def report_learned(self, cursor: Mapping[int, int]) -> None:
        """Tell the workers how far training has come (for back-pressure and progress; not durable)."""
        with self._client.pipeline(transaction=False) as pipe:
            for p, sequence in cursor.items():
                pipe.set(self._keys.learned(p), sequence)
            pipe.execute()

    def trim(self, cursor: Mapping[int, int]) -> None:
        """Drop entries that lie wholly at or behind a cursor; call only with a durable one."""
        with self._client.pipeline(transaction=False) as pipe:
            for p, sequence in cursor.items():
                pipe.xtrim(self._keys.outbox(p), minid=f"{sequence + 1}-0", approximate=False)
            pipe.execute()

    def sequences(self) -> dict[int, int]:
        """Sequence number of the newest sample per partition."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.hget(self._keys.fence(p), "seq")
            found = pipe.execute()
        return {p: int(value or 0) for p, value in enumerate(found)}
