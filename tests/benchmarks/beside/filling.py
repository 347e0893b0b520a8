"""Fills Redis as workers and learner do: batches by the product's own call, item sums, norms, a trimmed outbox."""

import time

import numpy as np
import redis
from beside.population import Chunk

from state_store.outbox import Outbox
from state_store.states import StateStore
from stream.events import Feedback, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest
from stream.partitioning import partition_of
from stream.process.store import open_store
from stream.settings import Settings

_AT_ONCE = 500
"""Records of one call."""
_LIKED_AFTER_MS = 1000


class Filling:
    """Every partition's worker, and a learner that has learned all at once.

    Args:
        settings: with the address of Redis.
        client: connected to it.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.partitions = settings.kafka.partitions
        self.store: StateStore = open_store(settings, client)
        self._topics = settings.topics
        self._ingest = Ingest(
            self.store,
            settings.fields,
            settings.actions,
            settings.events,
            lambda dead: None,
            histories=settings.histories,
        )
        for p in range(self.partitions):
            self._ingest.assign(p)
        self._ends = {(topic, p): 0 for topic in self._topics for p in range(self.partitions)}
        self._outbox = Outbox(client, settings.redis.prefix, self.partitions)
        self._version = 0
        self._rng = np.random.default_rng(1)

    def add(self, chunk: Chunk) -> None:
        """Apply impressions and what was liked of them, sum items up, write norms, trim what was learned."""
        records = {place: list[LogRecord]() for place in self._ends}
        users: dict[int, set[str]] = {p: set() for p in range(self.partitions)}
        columns = zip(
            chunk.user_N.tolist(), chunk.item_N.tolist(), chunk.ts_N.tolist(), chunk.liked_N.tolist(), strict=True
        )
        for n, (user, item, ts, liked) in enumerate(columns, start=chunk.first):
            ids = {"imp_id": f"m{n}", "user_id": f"u{user}", "item_id": f"i{item}"}
            p = partition_of(ids["user_id"], self.partitions)
            users[p].add(ids["user_id"])
            self._put(records, self._topics[0], p, encode_event(Impression(ts=ts, **ids)))
            if liked:
                event = Feedback(ts=ts + _LIKED_AFTER_MS, action="like", **ids)
                self._put(records, self._topics[1], p, encode_event(event))
        now_ms = time.time_ns() // 1_000_000
        for (topic, p), found in records.items():
            for at in range(0, len(found), _AT_ONCE):
                self._ingest.process(topic, p, found[at : at + _AT_ONCE], now_ms)
        self.store.roll_up_items(range(self.partitions), self.partitions)
        self._learn(users, {f"i{item}" for item in chunk.item_N.tolist()})

    def _put(self, records: dict[tuple[str, int], list[LogRecord]], topic: str, partition: int, value: bytes) -> None:
        place = topic, partition
        records[place].append(LogRecord(self._ends[place], value, 0))
        self._ends[place] += 1

    def _learn(self, users: dict[int, set[str]], items: set[str]) -> None:
        self._version += 1
        norms = {p: self._norms(found) for p, found in users.items()}
        self.store.write_norms(self._version, norms, self._norms(items), self.partitions)
        reached = self._outbox.sequences()
        self._outbox.report_learned(reached)
        self._outbox.trim(reached)

    def _norms(self, ids: set[str]) -> dict[str, float]:
        return dict(zip(ids, self._rng.random(len(ids), dtype=np.float32).tolist(), strict=True))
