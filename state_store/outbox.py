"""The outbox: joined samples on their way from the worker to the learner."""

from collections.abc import Mapping

import redis

from state_store.client import script
from state_store.keys import Keys
from state_store.records import OutboxEntry, OutboxRead


class Outbox:
    """Reads joined samples behind a cursor, one sequence number per partition.

    An entry's stream id is `<sequence of its last sample>-0`, so the entries behind a cursor are exactly those that
    hold a sample not yet seen, even when the cursor lies inside an entry.
    """

    def __init__(self, client: redis.Redis, prefix: str, num_partitions: int) -> None:
        self._client = client
        self._keys = Keys(prefix)
        self.num_partitions = num_partitions
        self._reported: dict[int, int] = {}
        self._report = script(client, "report")

    def read(self, cursor: Mapping[int, int], *, max_entries: int) -> OutboxRead:
        """Up to `max_entries` entries per partition behind `cursor` (partition -> last sequence seen)."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.get(self._keys.learned(p))
                pipe.xrange(self._keys.outbox(p), min=f"({cursor.get(p, 0)}-0", max="+", count=max_entries)
            found = pipe.execute()
        learned = {p: int(value or 0) for p, value in enumerate(found[::2])}
        rolled_back = {p: known for p, known in learned.items() if known < self._reported.get(p, 0)}
        queues = [
            [OutboxEntry(p, int(entry_id.split(b"-")[0]), fields[b"s"]) for entry_id, fields in entries]
            for p, entries in enumerate(found[1::2])
            if p not in rolled_back
        ]
        # Round robin: no partition's samples run far ahead of another's.
        entries = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
        return OutboxRead(entries, rolled_back)

    def expect(self, cursor: Mapping[int, int]) -> None:
        """Say how far training was reported: a Redis that knows less was restored from an older snapshot."""
        self._reported |= cursor

    def report_learned(self, cursor: Mapping[int, int]) -> None:
        """Tell the workers how far training has come (for back-pressure and progress).

        A partition whose Redis was rolled back is left as it is: the next `read` must see that.
        """
        for p, sequence in cursor.items():
            if self._report(keys=[self._keys.learned(p)], args=[self._reported.get(p, 0), sequence]):
                self._reported[p] = sequence

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
