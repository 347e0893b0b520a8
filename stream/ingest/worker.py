"""The worker's hot path: feeds batches to the ingest stage, with retries and back-pressure.

Stages block on Redis, so they run in one thread beside the event loop: calls stay in order, and rebalances are answered
while Redis works. Another thread decodes what comes next.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

import faust
import redis
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP

from state_store.records import Applied, Span
from state_store.refusals import is_weather, told
from stream.ingest.codes import Coding
from stream.ingest.consumer.record_batch import RecordBatch
from stream.ingest.ending import StoppingError, start_anew, stop_for_good
from stream.ingest.log_watch import LogWatch
from stream.ingest.pressure import Pressure
from stream.ingest.relay import dead_letter_headers
from stream.ingest.rows import DeadLetter
from stream.ingest.stage import HoleError, Ingest, Ready, RollbackError, ZombieError
from stream.join.join import CompiledJoin
from stream.kafka.topics import BrokerUnavailableError, OtherLogError, TopicMismatchError
from stream.process.failpoints import failpoint
from stream.process.store import connect_when_ready, open_store
from stream.process.weather import Weather
from stream.settings import Settings

log = logging.getLogger("coldstream.worker")

_STOP_POLL_S = 0.1
_CUT_TO_BYTES = 100_000
_STAGES = 2
T = TypeVar("T")


def now_ms() -> int:
    """Wall clock, UTC milliseconds."""
    return time.time_ns() // 1_000_000


class Worker:
    """Feeds batches to the ingest stage.

    Args:
        settings: effective settings; `redis.url` and `kafka.url` are set.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.weather = Weather(log)
        client = connect_when_ready(settings.redis, self.weather)
        assert client is not None
        self.client = client
        self.store = open_store(settings, self.client)
        worker = settings.worker
        self.ingest = Ingest(
            self.store,
            settings.fields,
            settings.actions,
            settings.events,
            self._bury,
            num_partitions=settings.kafka.partitions,
            reroute=self._reroute,
            histories=settings.histories,
            join=CompiledJoin(self.store, worker.join_memory_mb) if worker.join == "compiled" else "script",
        )
        self.coding = Coding(settings, client)
        self.ingest.code(self.coding.coded)
        self.log_watch = LogWatch(settings, self.store)
        # While one waits for Redis, another works. Calls of a partition stay in order: they are one thread's.
        self._stages = [ThreadPoolExecutor(1, thread_name_prefix=f"stage-{n}") for n in range(_STAGES)]
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self.pressure = Pressure(worker.outbox_high_water, self._backlog, self._may_wait)
        self.num_records = 0
        self._rolled_up_at, self.rolled_up_s = 0, 0.0
        self.moved_at = time.monotonic()
        """When a fence moved last, or was known to have a reason not to."""
        self.brought_at: dict[TP, float] = {}
        """When a topic partition brought records last."""
        self.app: faust.App  # Set when the worker is wired to Faust (`stream.ingest.app`).
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked = False
        self._gave_up = False
        """Whether a batch was left undone: none behind it is to be applied."""

    def stop_asked(self) -> None:
        """Whatever waits for a server gives up."""
        self._stop_asked = True

    @property
    def is_stopping(self) -> bool:
        """Whether this worker is to end."""
        return self._stop_asked or (hasattr(self, "app") and self.app.should_stop)

    async def decode(self, batch: RecordBatch) -> Ready | None:
        """Decode one batch; None if the worker stops before what is malformed in it is durable elsewhere."""
        self._loop = asyncio.get_running_loop()
        try:
            return await self._loop.run_in_executor(self._decoding, self._decode, batch)
        except StoppingError as exc:
            self._give_up(exc)
            return None

    async def apply(self, ready: Ready | None) -> None:
        """Apply one batch, behind those of its partition; before that it waits while the learner is too far behind."""
        if ready is None:
            return
        p = ready.partition
        try:
            async with self.pressure.turn(p, len(ready.records)):
                applying = self.in_stage(self._apply, ready, partition=p)
            applied: Applied | None = None
            try:
                applied = await applying
            finally:
                self.pressure.ended(p, len(ready.records), None if applied is None else applied.backlog)
            if applied is None:
                return
            if ready.records:
                self.brought_at[TP(ready.topic, p)] = time.monotonic()
            self.num_records += len(ready.records)
            if self.num_records - self._rolled_up_at >= self.settings.worker.roll_up_records:
                await self.roll_up()
            self.moved_at = time.monotonic()
        except ZombieError as exc:
            # The partition has a new owner, which reads these records itself.
            log.warning("%s", exc)
        except (RollbackError, HoleError) as exc:
            start_anew(exc)
        except StoppingError as exc:
            self._give_up(exc)

    async def _backlog(self, partition: int) -> int:
        applied: Applied = await self.in_stage(self.retry, self.ingest.tick, partition, partition=partition)
        return applied.backlog

    def _may_wait(self) -> bool:
        self.moved_at = time.monotonic()
        return not self.is_stopping

    def _give_up(self, reason: StoppingError) -> None:
        # The next worker starts at the fence, so what is left undone comes again.
        self._gave_up = True
        log.warning("%s", reason)

    async def roll_up(self) -> None:
        """Exchange item counts between partitions."""
        self._rolled_up_at, self.rolled_up_s = self.num_records, time.monotonic()
        await self.in_stage(self.retry, self.ingest.roll_up, self.settings.kafka.partitions)

    def _decode(self, batch: RecordBatch) -> Ready:
        span = Span(batch.first, batch.offset, batch.num_lost)
        return self.ingest.decode(batch.topic, batch.partition, batch.records, now_ms(), span)

    def _apply(self, ready: Ready) -> Applied | None:
        if self._gave_up:
            return None
        expected = self.ingest.applied.get((ready.topic, ready.partition), -1) + 1
        if ready.span.first != expected:
            # A redelivery, or another log.
            self.check_log()
        failpoint("worker.before_apply")
        applied = self.retry(self.ingest.apply, ready)
        failpoint("worker.after_apply")
        return applied

    def check_log(self, *, older_than_s: float = 0.0) -> None:
        """End the process if the topics are not the log that the state was counted from; blocks."""
        try:
            self.retry(lambda: self.log_watch.check(older_than_s=older_than_s))
        except (OtherLogError, TopicMismatchError) as exc:
            stop_for_good(str(exc))

    def retry(self, call: Callable[..., T], *args: Any) -> T:
        """Call until the servers answer: the partition waits, nothing is acknowledged, nothing is lost.

        Raises:
            StoppingError: the worker is to stop and they still do not.
        """
        failed = set()
        for _ in count():
            try:
                done = call(*args)
            except BrokerUnavailableError as exc:
                failed.add("broker")
                self._wait(self.weather.failed("broker", str(exc)))
            except redis.RedisError as exc:
                if not is_weather(exc):
                    raise
                failed.add("state")
                self._wait(self.weather.failed("state", told(exc)))
            else:
                # Of what failed in another call nothing is known.
                for step in failed:
                    self.weather.passed(step)
                return done
        raise AssertionError("unreachable")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.is_stopping:
                self._gave_up = True  # What stands behind this is not to be tried.
                raise StoppingError("stopping while a server is away")
            time.sleep(min(left, _STOP_POLL_S))
            self.moved_at = time.monotonic()  # It is known what this waits for; it is not the consumer.

    def in_stage(self, call: Callable[..., T], *args: Any, partition: int = 0) -> asyncio.Future[T]:
        """Call in a thread of the stage, behind what it was asked before for that partition."""
        return asyncio.get_running_loop().run_in_executor(self._stages[partition % _STAGES], call, *args)

    def lag(self, tp: TP) -> int | None:
        """Offsets of a partition not yet applied, by the fetch's highwater (end offsets may be under-reported); None
        before the first fetch. Those of transactions that are open do not count."""
        consumer = self.app.consumer
        highwater: int | None = consumer.highwater(tp) if tp in consumer.assignment() else None
        if highwater is None:
            return None
        return max(0, highwater - 1 - self.ingest.applied.get((tp.topic, tp.partition), -1))

    def log_was_cut(self, tp: TP, end: int) -> None:
        """A log ends before what was applied of it: go on at its end, in a fresh process."""
        self._stages[tp.partition % _STAGES].submit(self._go_on_at_end, tp, end)

    def _go_on_at_end(self, tp: TP, end: int) -> None:
        self.check_log()
        self.retry(self.ingest.cut_log, tp.topic, tp.partition, end)
        start_anew(
            f"{tp.topic}/{tp.partition} ends at offset {end}, more was applied of it: its newest records were lost "
            "after they had been read (an unclean leader election, or a restored backup)"
        )

    # Dead letters -----------------------------------------------------------------------------------------------

    def _bury(self, dead: Sequence[DeadLetter]) -> None:
        """Write malformed records to the dead-letter topic; called from another thread."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.send_dead(dead), self._loop).result()

    async def send_dead(self, dead: Sequence[DeadLetter]) -> None:
        """Write letters until the broker has them; one that its topic finds too long is cut.

        Raises:
            StoppingError: the worker is to stop and the broker does not take them.
        """
        topic = self.settings.kafka.dead_letter
        for letter in dead:
            value, headers = letter.value, dead_letter_headers(letter)
            try:
                await self._send("dead letters", topic, value, headers)
            except MessageSizeTooLargeError:
                headers = [*headers, ("cut_from_bytes", str(len(value)).encode())]
                await self._send("dead letters", topic, value[:_CUT_TO_BYTES], headers)

    def _reroute(self, topic: str, partition: int, user: str, value: bytes) -> None:
        """Write a record where its user is counted; called from another thread."""
        assert self._loop is not None
        sent = self._send("rerouting", topic, value, None, partition, user.encode())
        asyncio.run_coroutine_threadsafe(sent, self._loop).result()

    async def _send(
        self,
        step: str,
        topic: str,
        value: bytes,
        headers: list[tuple[str, bytes]] | None,
        partition: int | None = None,
        key: bytes | None = None,
    ) -> None:
        while True:
            try:
                await self.app.producer.send_and_wait(topic, key, value, partition, None, headers)
            except MessageSizeTooLargeError:
                raise
            except KafkaError as exc:
                if self.is_stopping:
                    raise StoppingError("stopping while the broker is away") from exc
                pause = self.weather.failed(step, f"kafka does not take a record of {topic!r} ({exc!r})")
                self.moved_at = time.monotonic()
                await asyncio.sleep(pause)
            else:
                self.weather.passed(step)
                return
