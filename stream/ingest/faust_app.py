"""A Faust app whose consumer starts behind the fence; batches come from it in one of two ways.

`worker.consumer` chooses: `coalescing` (`stream.ingest.coalesce`), or `plain`, Faust's documented `take_events`. Both
lean on a few private methods of Faust; `tests/stream/ingest/test_faust_contract.py` pins each:

* `seek_to_committed`: start where the fence in Redis says, not at the committed offset.
* `_new_consumer_thread`, `_create_worker_consumer`: a shorter long poll.
* `App._new_transport`: a transport with this consumer.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import faust
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

CODEC = "coldstream_as_is"

_FETCH_MAX_WAIT_MS = 100

StartOffsets = Callable[[Mapping[TP, int]], Mapping[TP, int]]
"""Assigned partitions and the earliest offset that the broker still has of each -> first offset to read of each.
Blocking calls are fine."""


class _AsItIs(codecs.Codec):  # type: ignore[misc]
    """Values reach the agent as they were fetched."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


class _PromptConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with a shorter long poll."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust asks brokers to hold an empty fetch for 1.5 s; Tansu does so even when records come meanwhile."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        return consumer


class FencedConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, with a start at the fence."""

    start_offsets: StartOffsets | None = None
    """Asked at every assignment; None: start at what was committed."""

    def _new_consumer_thread(self) -> _PromptConsumerThread:
        return _PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to what `start_offsets` says."""
        offsets: dict[TP, int] = dict(await super().seek_to_committed())
        if self.start_offsets is not None and offsets:
            earliest = await self.earliest_offsets(*offsets)
            wanted = await asyncio.to_thread(self.start_offsets, earliest)
            await self.seek_wait(dict(wanted))
            offsets.update(wanted)
        return offsets


def fenced_app(
    name: str,
    brokers: str,
    start_offsets: StartOffsets | None,
    consumer: type[FencedConsumer] = FencedConsumer,
    session_timeout_s: float = 6.0,
    **options: Any,
) -> faust.App:
    """A Faust app.

    Args:
        name: consumer group.
        brokers: `host:port[,host:port]`.
        start_offsets: where to start, per assigned partition; None: what was committed.
        consumer: class of its consumer.
        session_timeout_s: of its membership in the group; heartbeats go out three times as often.
        options: further Faust settings.
    """
    codecs.register(CODEC, _AsItIs())
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

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Transport.Consumer = Consumer
    app._new_transport = lambda: Transport(app.conf.broker_consumer, app)
    return app


def run_app(app: faust.App) -> None:
    """Run a Faust app until SIGTERM or SIGINT, with its warnings on stderr and nothing on stdout."""
    worker = faust.Worker(app, loglevel="WARNING", quiet=True, redirect_stdouts=False)
    # It would draw to stdout even when quiet.
    worker.spinner = None
    worker.execute_from_commandline()
