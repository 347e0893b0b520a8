"""What a worker does by the clock: exchange item counts, relay dead letters, advance idle partitions, watch itself."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
from faust.types import TP

from state_store.keys import Keys
from state_store.resident import resident_bytes
from state_store.weights import WeightStore
from stream.ingest.relay import relay_dead, unrelayed
from stream.ingest.stage import RollbackError
from stream.ingest.worker import EXIT_STALLED, Worker, now_ms, start_anew

_LOG_CHECK_S = 5.0


class Housekeeping:
    """A worker's timers.

    Args:
        worker: wired to Faust.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._settings = worker.settings
        self._keys = Keys(worker.settings.redis.prefix)
        self._weights = WeightStore(worker.client, worker.settings.redis.prefix)
        self._announced = 0

    def timers(self) -> Iterator[tuple[Callable[..., object], float]]:
        """Each task, and how often it is due, in seconds."""
        yield self._worker.roll_up, self._settings.worker.roll_up_s
        yield self.relay, 1.0
        yield self.advance_idle, 1.0
        yield self.watch, 1.0
        yield self.check_log, _LOG_CHECK_S
        yield self.report, 0.5

    @property
    def _partitions(self) -> list[int]:
        return sorted(self._worker.ingest.epochs)

    async def relay(self) -> None:
        """Carry the join's dead letters, and each new manifest, from Redis to Kafka."""
        worker, kafka = self._worker, self._settings.kafka
        for partition in self._partitions:
            entries = await worker.in_stage(unrelayed, worker.client, self._keys, partition)
            if entries:
                await worker.send_dead([letter for _, letter in entries])
                await worker.in_stage(relay_dead, worker.client, self._keys, partition, [i for i, _ in entries])
        manifest = await worker.in_stage(self._weights.latest)
        if manifest is not None and manifest.version > self._announced:
            key, value = self._settings.redis.prefix.encode(), msgspec.json.encode(manifest)
            await worker.app.producer.send_and_wait(kafka.weights, key, value, None, None, None)
            self._announced = manifest.version

    async def advance_idle(self) -> None:
        """Let live partitions that were read to their end move on by the wall clock."""
        worker = self._worker
        idle_after = self._settings.worker.idle_after_ms / 1000
        now = time.monotonic()
        for partition in self._partitions:
            idle = []
            for topic in self._settings.topics:
                tp = TP(topic, partition)
                if worker.lag(tp) > 0:
                    worker.quiet_since.pop(tp, None)
                elif idle_after and now - worker.quiet_since.setdefault(tp, now) >= idle_after:
                    idle.append(topic)
            if idle and worker.ingest.is_live(partition, now_ms(), self._settings.horizon_ms):
                floor = now_ms() - int(idle_after * 1000) - self._settings.join.lateness_ms
                await worker.in_stage(self._tick_idle, partition, idle, floor if len(idle) == 2 else 0)

    def _tick_idle(self, partition: int, idle: list[str], floor: int) -> None:
        worker = self._worker
        worker.retry(lambda: worker.ingest.tick(partition, idle_topics=idle, watermark_floor_ms=floor))

    async def watch(self) -> None:
        """End the process if records wait and nothing moves: a consumer gone quiet does not come back by itself."""
        worker, limit = self._worker, self._settings.worker.stalled_after_s
        waiting = [tp for p in self._partitions for t in self._settings.topics if worker.lag(tp := TP(t, p)) > 0]
        if not waiting:
            worker.moved_at = time.monotonic()
        elif time.monotonic() - worker.moved_at > limit:
            stalled = f"{waiting[0].topic}/{waiting[0].partition}"
            print(f"{stalled} has records, but no fence has moved for {limit:g} s: ending", file=sys.stderr, flush=True)
            os._exit(EXIT_STALLED)

    async def check_log(self) -> None:
        """End the process if a topic was made anew, or was given more partitions."""
        await asyncio.to_thread(self._worker.check_log)

    async def report(self) -> None:
        """Leave a progress report in Redis, for whoever watches; notice a Redis that was rolled back."""
        worker = self._worker
        try:
            for partition in self._partitions:
                await worker.in_stage(worker.ingest.check_state, partition)
        except RollbackError as exc:
            start_anew(exc)
        tps = [TP(topic, p) for p in self._partitions for topic in self._settings.topics]
        report = {
            "time_ms": now_ms(),
            "partitions": self._partitions,
            "records": worker.num_records,
            "waits": worker.waits,
            "outcomes": dict(worker.ingest.outcomes),
            "resident_bytes": resident_bytes(),
            "lag": {f"{tp.topic}/{tp.partition}": worker.lag(tp) for tp in tps},
        }
        await worker.in_stage(worker.client.hset, self._keys.worker_status, worker.name, msgspec.json.encode(report))
