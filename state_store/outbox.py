"""The outbox: joined samples on their way from the worker to the learner."""

from collections.abc import Mapping

import redis

from state_store.client import script
from state_store.errors import lost_ownership
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
        self._owner = 0
        self._report = script(client, "report")
        self._trim = script(client, "trim")
        self._increase = script(client, "increase")

    def own(self, least: int) -> int:
        """Become the one learner that may report and trim; older ones are refused from now on.

        Args:
            least: the owner's number is at least this; the wall clock, so that it grows even if Redis forgets.

        Returns:
            the owner's number.
        """
        found = least
        while True:
            numbers = [
                int(self._increase(keys=[self._keys.owner(p)], args=[found])) for p in range(self.num_partitions)
            ]
            # One number for all partitions: where one knew a greater number, the others are told.
            if max(numbers) == min(numbers):
                break
            found = max(numbers) + 1
        self._owner = numbers[0]
        return self._owner

    def read(self, cursor: Mapping[int, int], *, max_entries: int) -> OutboxRead:
        """Up to `max_entries` entries per partition behind `cursor` (partition -> last sequence seen).

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.get(self._keys.owner(p))
                pipe.get(self._keys.learned(p))
                pipe.xrange(self._keys.outbox(p), min=f"({cursor.get(p, 0)}-0", max="+", count=max_entries)
            found = pipe.execute()
        if self._owner and any(int(owner or 0) > self._owner for owner in found[::3]):
            raise lost_ownership(self._keys.prefix)
        learned = {p: int(value or 0) for p, value in enumerate(found[1::3])}
        rolled_back = {p: known for p, known in learned.items() if known < self._reported.get(p, 0)}
        queues = [
            [OutboxEntry(p, int(entry_id.split(b"-")[0]), fields[b"s"]) for entry_id, fields in entries]
            for p, entries in enumerate(found[2::3])
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

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        for p, sequence in cursor.items():
            keys = [self._keys.learned(p), self._keys.owner(p)]
            said = self._report(keys=keys, args=[self._reported.get(p, 0), sequence, self._owner])
            if said < 0:
                raise lost_ownership(self._keys.prefix)
            if said:
                self._reported[p] = sequence

    def learned(self) -> dict[int, int]:
        """Sequence number of the last sample that was reported as learned, per partition."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.get(self._keys.learned(p))
            found = pipe.execute()
        return {p: int(value or 0) for p, value in enumerate(found)}

    def trim(self, cursor: Mapping[int, int]) -> None:
        """Drop entries that lie wholly at or behind a cursor; call only with a durable one.

        Raises:
            LostOwnershipError: another learner has taken over.
        """
        for p, sequence in cursor.items():
            keys = [self._keys.outbox(p), self._keys.owner(p)]
            if self._trim(keys=keys, args=[sequence + 1, self._owner]) < 0:
                raise lost_ownership(self._keys.prefix)

    def sequences(self) -> dict[int, int]:
        """Sequence number of the newest sample per partition."""
        with self._client.pipeline(transaction=False) as pipe:
            for p in range(self.num_partitions):
                pipe.hget(self._keys.fence(p), "seq")
            found = pipe.execute()
        return {p: int(value or 0) for p, value in enumerate(found)}
