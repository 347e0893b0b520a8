"""The thread in which Faust's Kafka consumer reads: which offsets a fetch covered, and what to do where there are none.

Offsets are not records. aiokafka passes silently over transaction markers, aborted and compacted records; here every
fetch says what range it covered, so that the fence can pass over them, too, and lag comes to nothing. Where the log
begins behind the place to read, records are gone: they are counted, and reading goes on at the first that is there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka.errors import ConsumerStoppedError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.ingest.consumer.backlog import Backlog
from stream.ingest.consumer.decoded_records import leave_as_decoded
from stream.ingest.consumer.patience import Patience
from stream.ingest.consumer.record_batch import Fetched
from stream.process.weather import Weather

log = logging.getLogger("coldstream.worker")

_FETCH_MAX_WAIT_MS = 100

CutLog = Callable[[TP, int], None]
"""Told that a log ends before what was applied of it: topic partition, end of the log."""


class ReadingOptions(NamedTuple):
    """How the thread reads, and whom it tells."""

    isolation: str = "read_committed"
    weather: Weather = Weather(log)
    on_cut: CutLog = lambda tp, end: None
    as_decoded: bool = False
    """Whether records come without topic and headers, as batches need them."""
    at_once: int = 4096
    """Records that are handed on at once."""


class ReadingThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, whose fetches are ranges of offsets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._next: dict[TP, int] = {}
        """Where the range begins that the next fetch of a partition covers."""
        self._lost: dict[TP, int] = {}
        """Offsets found to be gone since then."""
        self.options = ReadingOptions()
        self._backlog, self._patience = Backlog(self.options.at_once), Patience()

    def read_as(self, options: ReadingOptions) -> None:
        """From now on."""
        self.options, self._backlog = options, Backlog(options.at_once)

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust asks brokers to hold an empty fetch for 1.5 s; Tansu does so even when records come meanwhile."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        consumer._isolation_level = self.options.isolation
        # An offset that is not there is told; aiokafka would go on elsewhere without a word.
        consumer._auto_offset_reset = "none"
        if self.options.as_decoded:
            leave_as_decoded(consumer)
        return consumer

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        """What comes next of these partitions begins there."""
        for tp, offset in partitions.items():
            self._next[tp] = offset
            self._lost.pop(tp, None)
            self._backlog.drop(tp)
        await super()._seek_wait(consumer, partitions)

    def highwater(self, tp: TP) -> int | None:
        """First offset that cannot be read yet; with `read_committed` that of the oldest open transaction."""
        consumer = self._ensure_consumer()
        if self.options.isolation == "read_committed":
            stable: int | None = consumer.last_stable_offset(tp)
            if stable is not None and stable >= 0:
                return stable
        found: int | None = consumer.highwater(tp)
        return found

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Mapping[TP, Fetched]:
        """What was read of each partition since the last call; a broker that says no is waited for."""
        # Faust's own thread changes the set meanwhile.
        active = set(active_partitions or ())
        wanted = {tp for tp in active if tp not in self._backlog}
        if wanted:
            late = self._have_more(consumer, wanted)
            within = timeout if len(wanted) == len(active) else self._patience.left_s(late)
            fetched = await self._fetch_more(consumer, wanted, within, max_records)
            self._backlog.add(fetched, time.time_ns() // 1_000_000)
            late = self._have_more(consumer, {tp for tp in wanted if tp not in self._backlog})
            if self._patience.left_s(late):
                return {}
        for tp in self._backlog.partitions:
            if _state_of(consumer, tp) is None:
                self._backlog.drop(tp)
        return self._backlog.take(active, self._have_more(consumer, active)) if self.consumer.flow_active else {}

    def _have_more(self, consumer: Any, partitions: set[TP]) -> set[TP]:
        """Those of which there is more than has been read, or of which it is not known yet whether there is any."""
        found = set()
        for tp in partitions:
            state = _state_of(consumer, tp)
            if state is not None and state.has_valid_position:
                end = self.highwater(tp)
                if end is None or state.position < end:
                    found.add(tp)
        return found

    async def _fetch_more(
        self, consumer: Any, wanted: set[TP], timeout: float | None, max_records: int | None
    ) -> Mapping[TP, Fetched]:
        """What there is of partitions of which nothing is held back."""
        try:
            records = await super()._fetch_records(consumer, wanted, timeout, max_records)
        except OffsetOutOfRangeError as exc:
            for tp, offset in exc.args[0].items():
                await self._find_log(consumer, TP(*tp), offset)
            return {}
        except NoOffsetForPartitionError:
            return {}  # before the first seek
        except ConsumerStoppedError:
            raise
        except KafkaError as exc:
            await asyncio.sleep(self.options.weather.failed("fetch", f"kafka does not give records ({exc!r})"))
            return {}
        self.options.weather.passed("fetch")
        return self._ranges(consumer, records, wanted)

    def _ranges(self, consumer: Any, records: Mapping[Any, Any], wanted: set[TP]) -> dict[TP, Fetched]:
        found = {}
        for tp in dict.fromkeys((*wanted, *(TP(*tp) for tp in records))):
            state = _state_of(consumer, tp)
            if tp not in self._next or state is None or not state.has_valid_position:
                continue
            first, position = self._next[tp], state.position
            if position > first:
                found[tp] = Fetched(records.get(tp, ()), first, position, self._lost.pop(tp, 0))
                self._next[tp] = position
        return found

    async def _find_log(self, consumer: Any, tp: TP, offset: int) -> None:
        """Go on where the log is, as it is not at `offset`."""
        begins = (await consumer.beginning_offsets([tp]))[tp]
        ends = (await consumer.end_offsets([tp]))[tp]
        if offset < begins:
            log.warning(
                "%s/%d: offsets %d to %d were gone before they were read; lengthen the topic's retention",
                tp.topic,
                tp.partition,
                offset,
                begins - 1,
            )
            self._lost[tp] = self._lost.get(tp, 0) + begins - offset
            consumer.seek(tp, begins)
        elif offset > ends:
            self.options.on_cut(tp, ends)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """A commit that fails ends nothing: it is for lag tools only, as reading starts at the fence."""
        consumer = self._ensure_consumer()
        held = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        try:
            await consumer.commit(
                {driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "") for tp, offset in held.items()}
            )
        except (KafkaError, OSError) as exc:
            self.options.weather.failed("commit", f"kafka does not take a commit ({exc!r})")
            return False
        self.options.weather.passed("commit")
        return True


def _state_of(consumer: Any, tp: TP) -> Any:
    """How far the consumer has read a partition; None: it is not this consumer's."""
    assignment = consumer._subscription.subscription.assignment
    return None if assignment is None else assignment.state_value(tp)
