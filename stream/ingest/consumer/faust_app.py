"""A Faust app whose consumer starts behind the fence; batches come from it in one of two ways.

`worker.consumer` chooses: `coalescing` (`consumer.coalesce`), or `plain`, Faust's documented `take_events`. Both lean
on a few private methods of Faust; `tests/stream/ingest/test_faust_contract.py` pins each:

* `seek_to_committed`: start where the fence in Redis says, not at the committed offset.
* `on_partitions_revoked`, `on_partitions_assigned`: when partitions may be taken over (`consumer.takeover`).
* `_wait_next_records`: while some partitions are held back, none is read.
* `_new_consumer_thread`: a thread that reads as `stream.ingest.consumer.reading` says.
* `App._new_transport`: a transport with this consumer.
* `Worker._schedule_shutdown`: the moment at which it is asked to stop.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import faust
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.ingest.consumer.reading import ReadingOptions, ReadingThread
from stream.ingest.consumer.record_batch import Fetched, one_by_one
from stream.ingest.consumer.takeover import StartOffsets, Takeover
from stream.process.repeats import sum_up_repeats

CODEC = "coldstream_as_is"
_LOOK_AGAIN_S = 0.02


class _AsItIs(codecs.Codec):  # type: ignore[misc]
    """Values reach the agent as they were fetched."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


class FencedConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, with a start at the fence."""

    start_offsets: StartOffsets | None = None
    """Asked at every assignment; None: start at what was committed."""
    reading: ReadingOptions = ReadingOptions()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._takeover = Takeover(self.start_offsets, self._is_stopping) if self.start_offsets is not None else None

    def _is_stopping(self) -> bool:
        return bool(self.should_stop or self.app.should_stop)

    def _new_consumer_thread(self) -> ReadingThread:
        thread = ReadingThread(self, loop=self.loop, beacon=self.beacon)
        thread.read_as(self.reading)
        return thread

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Partitions are to be given back: those that are being taken over first."""
        if self._takeover is not None:
            await self._takeover.end()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Partitions may be taken over."""
        if self._takeover is not None:
            self._takeover.begin()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_stop(self) -> None:
        """Leave the group only when nothing is being taken over any more."""
        if self._takeover is not None:
            await self._takeover.end()
        await super().on_stop()

    async def _wait_next_records(self, timeout: float) -> tuple[Mapping[TP, Fetched] | None, set[TP] | None]:
        """Faust holds partitions back while many of their batches wait to be applied: until it has let all of them go.

        Read meanwhile, the others would be ahead of them, feedback of its impressions.
        """
        while self._buffered_partitions - self._get_active_partitions() and self.flow_active and not self.should_stop:
            await asyncio.sleep(_LOOK_AGAIN_S)
        records, active = await super()._wait_next_records(timeout)
        return records, active

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to what `start_offsets` says, unless they are being given back."""
        if self._takeover is None:
            return dict(await super().seek_to_committed())
        if self._takeover.is_over:
            return {}
        offsets: dict[TP, int] = dict(await super().seek_to_committed())
        if offsets:
            wanted = await self._takeover.take(await self.earliest_offsets(*offsets))
            await self.seek_wait(dict(wanted))
            offsets.update(wanted)
        return offsets


class _OneByOne:
    """Faust's extension point: decides the order and form in which fetched records become events."""

    def iterate(self, records: Mapping[TP, Fetched]) -> Iterator[tuple[TP, Any]]:
        return one_by_one(records)


def fenced_app(
    name: str,
    brokers: str,
    start_offsets: StartOffsets | None,
    consumer: type[FencedConsumer] = FencedConsumer,
    session_timeout_s: float = 6.0,
    reading: ReadingOptions | None = None,
    **options: Any,
) -> faust.App:
    """A Faust app.

    Args:
        name: consumer group.
        brokers: `host:port[,host:port]`.
        start_offsets: where to start, per assigned partition; None: what was committed.
        consumer: class of its consumer.
        session_timeout_s: of its membership in the group; heartbeats go out three times as often.
        reading: how its thread reads.
        options: further Faust settings.
    """
    codecs.register(CODEC, _AsItIs())
    options.setdefault("ConsumerScheduler", _OneByOne)
    app = faust.App(
        name,
        broker=[f"kafka://{host}" for host in brokers.split(",")],
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        # Tansu answers a group join after half the session timeout; Faust's default of 60 s would mean half a minute.
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=session_timeout_s / 3,
        broker_commit_interval=1.0,
        **options,
    )

    class Consumer(consumer):  # type: ignore[misc,valid-type]
        pass

    # A plain function as class attribute would become a method.
    Consumer.start_offsets = staticmethod(start_offsets) if start_offsets is not None else None

    Consumer.reading = reading or ReadingOptions()

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Transport.Consumer = Consumer
    app._new_transport = lambda: Transport(app.conf.broker_consumer, app)
    return app


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker; tells when it is asked to stop, and says one thing once."""

    on_stop_asked: Callable[[], None] = staticmethod(lambda: None)

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        super().on_setup_root_logger(logger, level)
        sum_up_repeats(logger)

    def _schedule_shutdown(self, signal: Any) -> None:
        self.on_stop_asked()
        super()._schedule_shutdown(signal)


def run_app(app: faust.App, on_stop_asked: Callable[[], None] = lambda: None) -> None:
    """Run a Faust app until SIGTERM or SIGINT, with its warnings on stderr and nothing on stdout.

    Args:
        app: the app.
        on_stop_asked: called when the signal has come.
    """
    worker = _Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False)
    worker.on_stop_asked = on_stop_asked
    # It would draw to stdout even when quiet.
    worker.spinner = None
    worker.execute_from_commandline()
