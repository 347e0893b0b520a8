"""The worker role: a Faust app that feeds the ingest stage and keeps its house in order.

The agent and the timers only wire stages. Stages block on Redis, so they run in one thread beside the event loop: calls
stay in order, and rebalances are answered while Redis works.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NoReturn, TypeVar

import faust
import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP

from state_store.backoff import backoff_s
from state_store.client import TRANSIENT_ERRORS, connect
from state_store.keys import Keys
from state_store.records import Applied
from state_store.states import StateStore
from state_store.weights import WeightStore
from stream.coalesce import RecordBatch
from stream.failpoints import VARIABLE as FAILPOINT
from stream.failpoints import failpoint
from stream.ingest import DeadLetter, Ingest, LogRecord, RollbackError, ZombieError
from stream.relay import dead_letter_headers, relay_dead, unrelayed
from stream.settings import Settings

log = logging.getLogger("coldstream.worker")

_HIGH_WATER_PAUSE_S = 0.02
_CUT_TO_BYTES = 100_000
EXIT_FAILED, EXIT_STALLED = 70, 75
T = TypeVar("T")


def now_ms() -> int:
    """Wall clock, UTC milliseconds."""
    return time.time_ns() // 1_000_000


class Worker:
    """Feeds batches to the ingest stage, with retries, back-pressure and idle advance.

    Args:
        settings: effective settings; `redis.url` and `kafka.url` are set.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._client = connect(settings.redis)
        self._keys = Keys(settings.redis.prefix)
        self.store = StateStore(self._client, settings.redis, settings.join, settings.actions, settings.topics)
        self._weights = WeightStore(self._client, settings.redis.prefix)
        self.ingest = Ingest(self.store, settings.fields, settings.actions, settings.events, self._bury)
        self._stage = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self._announced = 0
        self._quiet_since: dict[TP, float] = {}
        self.num_records = 0
        self.waits = 0
        self._moved_at = time.monotonic()
        self.app: faust.App
        """Set when the worker is wired to Faust (`stream.app`)."""
        self._loop: asyncio.AbstractEventLoop | None = None

    # The hot path -----------------------------------------------------------------------------------------------

    def start_offsets(self, assigned: Sequence[TP]) -> Mapping[TP, int]:
        """Take the assigned partitions over and start behind their fences."""
        partitions = sorted({tp.partition for tp in assigned if tp.topic in self.settings.topics})
        if partitions and partitions[-1] >= self.settings.kafka.partitions:
            stop_for_good(
                f"partition {partitions[-1]} was assigned, but kafka.partitions is {self.settings.kafka.partitions}: "
                "partitions were added to a live topic, which splits users over two histories; use new topics"
            )
        for revoked in set(self.ingest.epochs) - set(partitions):
            self.ingest.release(revoked)
        fences = {p: self._retry(self.ingest.assign, p) for p in partitions}
        log.info("assigned partitions %s", partitions)
        return {tp: fences[tp.partition][tp.topic] + 1 for tp in assigned if tp.topic in self.settings.topics}

    async def process(self, batch: RecordBatch) -> None:
        """Apply one batch; returns once Redis has it, and the learner is not too far behind."""
        self._loop = asyncio.get_running_loop()
        try:
            applied = await self._in_stage(self._apply, batch)
            self._quiet_since.pop(TP(batch.topic, batch.partition), None)
            self.num_records += len(batch.records)
            self._moved_at = time.monotonic()
            while applied.backlog > self.settings.worker.outbox_high_water:
                self.waits += 1
                self._moved_at = time.monotonic()
                await asyncio.sleep(_HIGH_WATER_PAUSE_S)
                applied = await self._in_stage(self._tick, batch.partition)
        except ZombieError as exc:
            # The partition has a new owner, which reads these records itself.
            log.warning("%s", exc)
        except RollbackError as exc:
            start_anew(exc)

    def _apply(self, batch: RecordBatch) -> Applied:
        records = [LogRecord(r.offset, r.value, r.timestamp) for r in batch.records]
        failpoint("worker.before_apply")
        applied = self._retry(self.ingest.process, batch.topic, batch.partition, records, now_ms())
        failpoint("worker.after_apply")
        return applied

    def _tick(self, partition: int) -> Applied:
        return self._retry(self.ingest.tick, partition)

    def _retry(self, call: Callable[..., T], *args: Any) -> T:
        """Call until Redis answers: the partition waits, nothing is acknowledged, nothing is lost."""
        for attempt in count():
            try:
                return call(*args)
            except TRANSIENT_ERRORS as exc:
                pause = backoff_s(attempt)
                log.warning("redis does not answer (%s); trying again in %.1f s", exc, pause)
                time.sleep(pause)
                # It is known what this waits for; it is not the consumer.
                self._moved_at = time.monotonic()
        raise AssertionError("unreachable")

    async def _in_stage(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._stage, call, *args)

    def _bury(self, dead: Sequence[DeadLetter]) -> None:
        """Write malformed records to the dead-letter topic; called from the stage's thread."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._send_dead(dead), self._loop).result()

    async def _send_dead(self, dead: Sequence[DeadLetter]) -> None:
        """Write letters until the broker has them; one that its topic finds too long is cut."""
        for letter in dead:
            value, headers = letter.value, dead_letter_headers(letter)
            for attempt in count():
                try:
                    await self.app.producer.send_and_wait(
                        self.settings.kafka.dead_letter, None, value, None, None, headers
                    )
                    break
                except MessageSizeTooLargeError:
                    headers = [*headers, ("cut_from_bytes", str(len(value)).encode())]
                    value = value[:_CUT_TO_BYTES]
                except KafkaError as exc:
                    pause = backoff_s(attempt)
                    log.warning("kafka does not take a dead letter (%r); trying again in %.1f s", exc, pause)
                    await asyncio.sleep(pause)

    # Timers -----------------------------------------------------------------------------------------------------

    async def roll_up(self) -> None:
        """Exchange item counts between partitions."""
        await self._in_stage(
            self._retry, self.store.roll_up_items, sorted(self.ingest.epochs), self.settings.kafka.partitions
        )

    async def relay(self) -> None:
        """Carry the join's dead letters, and each new manifest, from Redis to Kafka."""
        producer, kafka = self.app.producer, self.settings.kafka
        for partition in sorted(self.ingest.epochs):
            entries = await self._in_stage(unrelayed, self._client, self._keys, partition)
            if entries:
                await self._send_dead([letter for _, letter in entries])
                await self._in_stage(relay_dead, self._client, self._keys, partition, [i for i, _ in entries])
        manifest = await self._in_stage(self._weights.latest)
        if manifest is not None and manifest.version > self._announced:
            value = msgspec.json.encode(manifest)
            await producer.send_and_wait(kafka.weights, self.settings.redis.prefix.encode(), value, None, None, None)
            self._announced = manifest.version

    async def advance_idle(self) -> None:
        """Let live partitions that were read to their end move on by the wall clock."""
        idle_after = self.settings.worker.idle_after_ms / 1000
        now = time.monotonic()
        for partition in sorted(self.ingest.epochs):
            idle = []
            for topic in self.settings.topics:
                tp = TP(topic, partition)
                if self.lag(tp) > 0:
                    self._quiet_since.pop(tp, None)
                elif idle_after and now - self._quiet_since.setdefault(tp, now) >= idle_after:
                    idle.append(topic)
            if idle and self.ingest.is_live(partition, now_ms(), self.settings.join.attribution_ms):
                floor = now_ms() - int(idle_after * 1000) - self.settings.join.lateness_ms
                await self._in_stage(self._tick_idle, partition, idle, floor if len(idle) == 2 else 0)

    def _tick_idle(self, partition: int, idle: list[str], floor: int) -> None:
        self._retry(lambda: self.ingest.tick(partition, idle_topics=idle, watermark_floor_ms=floor))

    async def watch(self) -> None:
        """End the process if records wait and nothing moves: a consumer gone quiet does not come back by itself."""
        limit = self.settings.worker.stalled_after_s
        waiting = [tp for p in self.ingest.epochs for t in self.settings.topics if self.lag(tp := TP(t, p)) > 0]
        if not waiting:
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > limit:
            print(
                f"{waiting[0]} has records, but no fence has moved for {limit:.0f} s: ending",
                file=sys.stderr,
                flush=True,
            )
            os._exit(EXIT_STALLED)

    def lag(self, tp: TP) -> int:
        """Records of a partition not yet applied, by the fetch's highwater (end offsets may be under-reported)."""
        consumer = self.app.consumer
        highwater = consumer.highwater(tp) if tp in consumer.assignment() else None
        return max(0, (highwater or 0) - 1 - self.ingest.applied.get((tp.topic, tp.partition), -1))

    async def report(self) -> None:
        """Leave a progress report in Redis, for whoever watches; notice a Redis that was rolled back."""
        try:
            for partition in sorted(self.ingest.epochs):
                await self._in_stage(self.ingest.check_state, partition)
        except RollbackError as exc:
            start_anew(exc)
        tps = [TP(topic, p) for p in sorted(self.ingest.epochs) for topic in self.settings.topics]
        report = {
            "time_ms": now_ms(),
            "partitions": sorted(self.ingest.epochs),
            "records": self.num_records,
            "waits": self.waits,
            "lag": {f"{tp.topic}/{tp.partition}": self.lag(tp) for tp in tps},
        }
        await self._in_stage(self._client.hset, self._keys.worker_status, self.name, msgspec.json.encode(report))


def stop_for_good(reason: str) -> NoReturn:
    """End the process over something that only a person can mend."""
    print(f"coldstream: {reason}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


def start_anew(reason: RollbackError) -> NoReturn:
    """Replace this process by a fresh one, which starts at the fences as they are now.

    What Redis lost is read again from Kafka. Batches that wait inside Faust belong to the old position: they go with
    the old process.
    """
    # Not by the log, whose handlers may hold messages back until a thread writes them.
    print(f"{reason}; starting anew at the fence", file=sys.stderr, flush=True)
    os.environ.pop(FAILPOINT, None)
    os.execv(sys.executable, [sys.executable, "-m", "stream.cli", *sys.argv[1:]])
