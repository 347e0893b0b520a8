"""The worker wired to Faust: one agent on both topics, and timers."""

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import faust
import redis
from aiokafka.errors import KafkaError

from stream.events import MAX_RECORD_BYTES
from stream.ingest.coalesce import coalescing_app
from stream.ingest.faust_app import CODEC, fenced_app, run_app
from stream.ingest.housekeeping import Housekeeping
from stream.ingest.record_batch import batches_of_events
from stream.ingest.stage import ZombieError
from stream.ingest.worker import EXIT_FAILED, StoppingError, Worker
from stream.kafka.security import faust_credentials
from stream.kafka.topics import check_log, ensure_topics
from stream.process.garbage import spare_garbage_collector
from stream.settings import Settings

log = logging.getLogger("coldstream.worker")

_TAKE_WITHIN_S = 0.1


def build_app(worker: Worker) -> faust.App:
    """Wire the worker's stages to Faust."""
    settings = worker.settings
    kafka, size = settings.kafka, settings.worker.batch
    options = {
        "session_timeout_s": settings.worker.session_timeout_s,
        "broker_credentials": faust_credentials(kafka),
        "datadir": tempfile.gettempdir(),
        "producer_max_request_size": MAX_RECORD_BYTES + (1 << 16),
        "consumer_max_fetch_size": 4 << 20,
    }
    if settings.worker.consumer == "coalescing":
        app = coalescing_app(kafka.group, kafka.url, size, worker.start_offsets, **options)
    else:
        app = fenced_app(kafka.group, kafka.url, worker.start_offsets, **options)
    worker.app = app
    source = app.topic(*settings.topics, value_serializer=CODEC, key_serializer="raw")

    async def ingest_batches(stream: Any) -> None:
        async for event in stream.events():
            await fail_stop(worker.process(event.value))

    async def ingest_events(stream: Any) -> None:
        async for events in stream.take_events(size, within=_TAKE_WITHIN_S):
            generation = app.consumer_generation_id
            current = [event for event in events if event.message.generation_id == generation]
            for batch in batches_of_events(current, size):
                # After a rebalance the rest comes again, from the fence on; to apply it now could leave a hole.
                if app.consumer_generation_id == generation:
                    await fail_stop(worker.process(batch))

    app.agent(source)(ingest_batches if settings.worker.consumer == "coalescing" else ingest_events)
    for call, seconds in Housekeeping(worker).timers():
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


def _guarded(call: Callable[..., Any]) -> Callable[[], Any]:
    """A timer whose failure is logged; the next round tries again."""

    async def timer() -> None:
        try:
            await call()
        except (redis.RedisError, KafkaError, ZombieError, StoppingError, OSError) as exc:
            log.warning("%s failed: %s", call.__name__, exc)

    timer.__name__ = call.__name__
    return timer


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        OperatorError: a server is away, or the topics do not fit the settings or the state.
    """
    topics = ensure_topics(settings.kafka)
    worker = Worker(settings)
    check_log(topics, settings, worker.store)
    app = build_app(worker)
    spare_garbage_collector()
    run_app(app)
