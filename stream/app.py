"""The worker wired to Faust: one agent on both topics, and timers."""

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import faust
import redis
from aiokafka.errors import KafkaError

from stream.coalesce import CODEC, coalescing_app, run_app
from stream.events import MAX_RECORD_BYTES
from stream.ingest import ZombieError
from stream.security import faust_credentials
from stream.settings import Settings
from stream.topics import ensure_same_log, ensure_topics
from stream.worker import EXIT_FAILED, Worker

log = logging.getLogger("coldstream.worker")


def build_app(worker: Worker) -> faust.App:
    """Wire the worker's stages to Faust: one agent on both topics, and timers."""
    settings = worker.settings
    app = coalescing_app(
        settings.kafka.group,
        settings.kafka.url,
        settings.worker.batch,
        worker.start_offsets,
        broker_credentials=faust_credentials(settings.kafka),
        datadir=tempfile.gettempdir(),
        producer_max_request_size=MAX_RECORD_BYTES + (1 << 16),
        consumer_max_fetch_size=4 << 20,
    )
    worker.app = app
    source = app.topic(*settings.topics, value_serializer=CODEC, key_serializer="raw")

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def ingest_batches(stream: Any) -> None:
        async for event in stream.events():
            await fail_stop(worker.process(event.value))

    for call, seconds in (
        (worker.roll_up, settings.worker.roll_up_s),
        (worker.relay, 1.0),
        (worker.advance_idle, 1.0),
        (worker.watch, 1.0),
        (worker.report, 0.5),
    ):
        app.timer(seconds)(_guarded(call))
    return app


async def fail_stop(step: Any) -> None:
    """Run a step of the agent; what it cannot handle itself ends the process.

    Faust would acknowledge the batch and go on, which would lose it. A process that ends loses nothing: its successor
    starts at the fence.
    """
    try:
        await step
    except Exception:
        log.critical("the worker stops: a batch could not be processed", exc_info=True)
        os._exit(EXIT_FAILED)


def _guarded(call: Callable[[], Any]) -> Callable[[], Any]:
    """A timer whose failure is logged; the next round tries again."""

    async def timer() -> None:
        try:
            await call()
        except (redis.RedisError, KafkaError, ZombieError, OSError) as exc:
            log.warning("%s failed: %s", call.__name__, exc)

    timer.__name__ = call.__name__
    return timer


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        OperatorError: a server is away, or the topics do not fit the settings or the state.
    """
    ensure_topics(settings.kafka)
    worker = Worker(settings)
    ensure_same_log(settings, worker.store)
    run_app(build_app(worker))
