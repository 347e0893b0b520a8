"""What a worker does by the clock: exchange item counts, relay dead letters, advance idle partitions, watch itself."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
from faust.types import TP

from state_store.keys import Keys
from state_store.records import Reading
from state_store.resident import resident_bytes
from state_store.weights import WeightStore
from stream.ingest.ending import EXIT_STALLED, start_anew
from stream.ingest.relay import relay_dead, unrelayed
from stream.ingest.stage import RollbackError
from stream.ingest.worker import Worker, now_ms
from stream.kafka.group import group_of

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
        self._read_since: dict[TP, float] = {}
        """Since when a partition is read as it is written."""
        self._superseded_since: dict[int, float] = {}
        """Since when a partition is known to be another worker's."""

    def timers(self) -> Iterator[tuple[Callable[..., object], float]]:
        """Each task, and how often it is due, in seconds."""
        yield self.roll_up, self._settings.worker.roll_up_s
        yield self.look_for_codebooks, 1.0
        yield self.relay, 1.0
        yield self.advance_idle, 1.0
        yield self.watch, 1.0
        yield self.take_back, 1.0
        yield self.check_log, _LOG_CHECK_S
        yield self.check_state, 0.5
        yield self.report, 0.5

    @property
    def _partitions(self) -> list[int]:
        return sorted(self._worker.ingest.epochs)

    async def roll_up(self) -> None:
        """Exchange item counts, unless so many records came that it has just been done."""
        if time.monotonic() - self._worker.rolled_up_s >= self._settings.worker.roll_up_s / 2:
            await self._worker.roll_up()

    async def look_for_codebooks(self) -> None:
        """Take the newest codebooks that samples are encoded by."""
        await self._worker.in_stage(self._worker.retry, self._worker.coding.look)

    async def relay(self) -> None:
        """Carry the join's dead letters, and each new manifest, from Redis to Kafka."""
        worker, kafka = self._worker, self._settings.kafka
        found = await worker.in_stage(unrelayed, worker.client, self._keys, self._partitions)
        for partition, entries in found.items():
            await worker.send_dead([letter for _, letter in entries])
            await worker.in_stage(relay_dead, worker.client, self._keys, partition, [i for i, _ in entries])
        manifest = await worker.in_stage(self._weights.latest)
        if manifest is not None and manifest.version > self._announced:
            key, value = self._settings.redis.prefix.encode(), msgspec.json.encode(manifest)
            await worker.app.producer.send_and_wait(kafka.weights, key, value, None, None, None)
            self._announced = manifest.version

    async def advance_idle(self) -> None:
        """Let partitions whose records have all been read go on by the wall clock."""
        worker, idle_after_ms = self._worker, self._settings.worker.idle_after_ms
        if not idle_after_ms:
            return
        for partition in self._partitions:
            quiet, read = [], []
            for topic in self._settings.topics:
                tp = TP(topic, partition)
                for_s = self._read_for_s(tp)
                if for_s >= idle_after_ms / 1000:
                    read.append(topic)
                    since = time.monotonic() - worker.brought_at.get(tp, 0.0)
                    if worker.lag(tp) == 0 and since >= idle_after_ms / 1000:
                        quiet.append(topic)
            if read:
                reading = Reading(now_ms(), tuple(quiet), tuple(read), idle_after_ms)
                await worker.in_stage(self._tick, partition, reading, partition=partition)

    def _read_for_s(self, tp: TP) -> float:
        """For how long a partition has been read as it is written, but for a batch at most."""
        lag = self._worker.lag(tp)
        if lag is None or lag > self._settings.worker.batch:
            self._read_since.pop(tp, None)
            return 0.0
        now = time.monotonic()
        return now - self._read_since.setdefault(tp, now)

    def _tick(self, partition: int, reading: Reading) -> None:
        worker = self._worker
        worker.retry(worker.ingest.tick, partition, reading)

    async def watch(self) -> None:
        """End the process if records wait and nothing moves: a consumer gone quiet does not come back by itself."""
        worker, limit = self._worker, self._settings.worker.stalled_after_s
        waiting = [tp for p in self._partitions for t in self._settings.topics if worker.lag(tp := TP(t, p))]
        if not waiting:
            worker.moved_at = time.monotonic()
        elif time.monotonic() - worker.moved_at > limit:
            stalled = f"{waiting[0].topic}/{waiting[0].partition}"
            print(f"{stalled} has records, but no fence has moved for {limit:g} s: ending", file=sys.stderr, flush=True)
            os._exit(EXIT_STALLED)

    async def take_back(self) -> None:
        """Start anew if another worker took a partition over, while this one's group still says that it is its own.

        A member that stood still for longer than its session takes over what it was given, although others have it by
        then. It learns from its heartbeat that it is out; whoever has the partition learns nothing, and would wait.
        """
        superseded, limit = self._worker.ingest.superseded, 2 * self._settings.worker.session_timeout_s
        self._superseded_since = {p: self._superseded_since.get(p, time.monotonic()) for p in superseded}
        for partition, since in self._superseded_since.items():
            if time.monotonic() - since > limit:
                start_anew(
                    f"partition {partition} was taken over by another worker more than {limit:g} s ago, and is this "
                    f"one's by its group {group_of(self._settings)!r} all the same"
                )

    async def check_log(self) -> None:
        """End the process if a topic was made anew, or was given more partitions."""
        await asyncio.to_thread(self._worker.check_log)

    async def check_state(self) -> None:
        """Notice a Redis that was rolled back."""
        worker = self._worker
        try:
            await worker.in_stage(worker.ingest.check_state, self._partitions)
        except RollbackError as exc:
            start_anew(exc)

    async def report(self) -> None:
        """Leave a progress report in Redis, for whoever watches; also while the stage waits for something."""
        worker = self._worker
        tps = [TP(topic, p) for p in self._partitions for topic in self._settings.topics]
        report = {
            "time_ms": now_ms(),
            "partitions": self._partitions,
            "group": group_of(self._settings),
            "topics": self._settings.topics,
            "records": worker.num_records,
            "num_paused": worker.pressure.num_paused,
            "outcomes": dict(worker.ingest.outcomes),
            "resident_bytes": resident_bytes(),
            "lag": {f"{tp.topic}/{tp.partition}": worker.lag(tp) or 0 for tp in tps},
            "waits": worker.weather.conditions,
            "waited_s": worker.weather.waited_s,
        }
        body = msgspec.json.encode(report)
        await asyncio.to_thread(worker.client.hset, self._keys.worker_status, worker.name, body)
