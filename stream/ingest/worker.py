"""The worker's hot path: feeds batches to the ingest stage, with retries and back-pressure.

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
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP

from state_store.backoff import backoff_s
from state_store.client import TRANSIENT_ERRORS, connect
from state_store.records import Applied
from stream.environment import FAILPOINT
from stream.ingest.log_watch import LogWatch
from stream.ingest.record_batch import RecordBatch
from stream.ingest.relay import dead_letter_headers
from stream.ingest.stage import DeadLetter, Ingest, LogRecord, RollbackError, ZombieError
from stream.kafka.topics import BrokerUnavailableError, OtherLogError, TopicMismatchError
from stream.process.failpoints import failpoint
from stream.process.store import open_store
from stream.settings import Settings

log = logging.getLogger("coldstream.worker")

_HIGH_WATER_PAUSE_S = 0.02
_STOP_POLL_S = 0.1
_HOLE_CHECK_S = 1.0
_CUT_TO_BYTES = 100_000
EXIT_FAILED, EXIT_STALLED = 70, 75
T = TypeVar("T")


class StoppingError(RuntimeError):
    """The worker is asked to stop while it waits for a server; what it was doing is left undone."""


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
        self.client = connect(settings.redis)
        self.store = open_store(settings, self.client)
        self.ingest = Ingest(self.store, settings.fields, settings.actions, settings.events, self._bury)
        self.log_watch = LogWatch(settings, self.store)
        self._stage = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self.num_records = 0
        self._rolled_up_at = 0
        self.waits = 0
        self.moved_at = time.monotonic()
        """When a fence moved last, or was known to have a reason not to."""
        self.quiet_since: dict[TP, float] = {}
        """Since when a topic partition has brought nothing."""
        self.app: faust.App
        """Set when the worker is wired to Faust (`stream.ingest.app`)."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def start_offsets(self, earliest: Mapping[TP, int]) -> Mapping[TP, int]:
        """Take the assigned partitions over and start behind their fences."""
        topics = self.settings.topics
        partitions = sorted({tp.partition for tp in earliest if tp.topic in topics})
        for revoked in set(self.ingest.epochs) - set(partitions):
            self.ingest.release(revoked)
        try:
            if partitions and partitions[-1] >= self.settings.kafka.partitions:
                self.check_log()
            fences = {
                p: self.retry(self.ingest.assign, p, {t: earliest[TP(t, p)] for t in topics if TP(t, p) in earliest})
                for p in partitions
            }
        except StoppingError:
            return {}
        log.info("assigned partitions %s", partitions)
        return {tp: fences[tp.partition][tp.topic] + 1 for tp in earliest if tp.topic in topics}

    async def process(self, batch: RecordBatch) -> None:
        """Apply one batch; returns once Redis has it, and the learner is not too far behind."""
        self._loop = asyncio.get_running_loop()
        try:
            applied = await self.in_stage(self._apply, batch)
            self.quiet_since.pop(TP(batch.topic, batch.partition), None)
            self.num_records += len(batch.records)
            if self.num_records - self._rolled_up_at >= self.settings.worker.roll_up_records:
                await self.roll_up()
            self.moved_at = time.monotonic()
            while applied.backlog > self.settings.worker.outbox_high_water and not self.app.should_stop:
                self.waits += 1
                self.moved_at = time.monotonic()
                await asyncio.sleep(_HIGH_WATER_PAUSE_S)
                applied = await self.in_stage(self.retry, self.ingest.tick, batch.partition)
        except ZombieError as exc:
            # The partition has a new owner, which reads these records itself.
            log.warning("%s", exc)
        except RollbackError as exc:
            start_anew(exc)
        except StoppingError as exc:
            # The next worker starts at the fence, so this batch comes again.
            log.warning("%s", exc)

    async def roll_up(self) -> None:
        """Exchange item counts between partitions."""
        self._rolled_up_at = self.num_records
        partitions, everywhere = sorted(self.ingest.epochs), self.settings.kafka.partitions
        await self.in_stage(self.retry, self.store.roll_up_items, partitions, everywhere)

    def _apply(self, batch: RecordBatch) -> Applied:
        expected = self.ingest.applied.get((batch.topic, batch.partition), -1) + 1
        if batch.first != expected:
            # A redelivery, a hole in the log, or another log. Only a step back needs an answer of this very moment.
            self.check_log(older_than_s=_HOLE_CHECK_S if batch.first > expected else 0.0)
        records = [LogRecord(r.offset, r.value, r.timestamp) for r in batch.records]
        failpoint("worker.before_apply")
        applied = self.retry(self.ingest.process, batch.topic, batch.partition, records, now_ms())
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
        for attempt in count():
            try:
                return call(*args)
            except (*TRANSIENT_ERRORS, BrokerUnavailableError) as exc:
                pause = backoff_s(attempt)
                log.warning("%s; trying again in %.1f s", exc, pause)
                self._wait(pause)
        raise AssertionError("unreachable")

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.app.should_stop:
                raise StoppingError("stopping while a server is away")
            time.sleep(min(left, _STOP_POLL_S))
            # It is known what this waits for; it is not the consumer.
            self.moved_at = time.monotonic()

    async def in_stage(self, call: Callable[..., T], *args: Any) -> T:
        """Call in the stage's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._stage, call, *args)

    def lag(self, tp: TP) -> int:
        """Records of a partition not yet applied, by the fetch's highwater (end offsets may be under-reported)."""
        consumer = self.app.consumer
        highwater = consumer.highwater(tp) if tp in consumer.assignment() else None
        return max(0, (highwater or 0) - 1 - self.ingest.applied.get((tp.topic, tp.partition), -1))

    # Dead letters -----------------------------------------------------------------------------------------------

    def _bury(self, dead: Sequence[DeadLetter]) -> None:
        """Write malformed records to the dead-letter topic; called from the stage's thread."""
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
            for attempt in count():
                try:
                    await self.app.producer.send_and_wait(topic, None, value, None, None, headers)
                    break
                except MessageSizeTooLargeError:
                    headers = [*headers, ("cut_from_bytes", str(len(value)).encode())]
                    value = value[:_CUT_TO_BYTES]
                except KafkaError as exc:
                    if self.app.should_stop:
                        raise StoppingError("stopping while the broker is away") from exc
                    pause = backoff_s(attempt)
                    log.warning("kafka does not take a dead letter (%r); trying again in %.1f s", exc, pause)
                    self.moved_at = time.monotonic()
                    await asyncio.sleep(pause)


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
    os.execv(sys.executable, [sys.executable, "-m", "stream.command.cli", *sys.argv[1:]])
