"""The worker wired to Faust: one agent on both topics, and timers."""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import faust
import redis
from aiokafka.errors import KafkaError

from state_store.refusals import is_weather, told
from stream.events import MAX_RECORD_BYTES
from stream.ingest.assignment import start_offsets
from stream.ingest.consumer.coalesce import coalescing_app
from stream.ingest.consumer.faust_app import CODEC, fenced_app, run_app
from stream.ingest.consumer.reading import ReadingOptions
from stream.ingest.consumer.record_batch import batches_of_events
from stream.ingest.ending import StoppingError, fail_stop
from stream.ingest.housekeeping import Housekeeping
from stream.ingest.lookahead import Lookahead
from stream.ingest.stage import ZombieError
from stream.ingest.worker import Worker
from stream.kafka.group import GroupTakenError, check_group, check_prefix, client_id, group_of
from stream.kafka.security import faust_credentials
from stream.kafka.topics import admin, check_log, ensure_topics
from stream.process.garbage import spare_garbage_collector
from stream.process.stopping import GRACE_S, end_after
from stream.settings import Settings

log = logging.getLogger("coldstream.worker")

_TAKE_WITHIN_S = 0.1
_GROUP_GRACE_S = 6.0
_SWITCH_S = 0.0005
"""Behind each answer from Redis the stage's thread waits so long for the interpreter, while another one decodes."""


def build_app(worker: Worker, name: str = "coldstream") -> faust.App:
    """Wire the worker's stages to Faust.

    Args:
        worker: its stages.
        name: the client id by which the pipeline's workers know each other.
    """
    settings = worker.settings
    kafka, size = settings.kafka, settings.worker.batch
    options = {
        "session_timeout_s": settings.worker.session_timeout_s,
        "broker_credentials": faust_credentials(kafka),
        "datadir": tempfile.gettempdir(),
        "producer_max_request_size": MAX_RECORD_BYTES + (1 << 16),
        "consumer_max_fetch_size": 4 << 20,
        "broker_client_id": f"{name}-{worker.name}",
        "producer_compression_type": None if kafka.compression == "none" else kafka.compression,
        "reading": ReadingOptions(kafka.isolation, worker.weather, worker.log_was_cut),
    }
    group = group_of(settings)
    starts = partial(start_offsets, worker)
    if settings.worker.consumer == "coalescing":
        app = coalescing_app(group, kafka.url, size, starts, before=settings.topics[0], **options)
    else:
        app = fenced_app(group, kafka.url, starts, **options)
    worker.app = app
    source = app.topic(*settings.topics, value_serializer=CODEC, key_serializer="raw")

    lookahead = Lookahead(worker.decode, worker.apply)

    async def ingest_batches(stream: Any) -> None:
        async for event in stream.events():
            await fail_stop(lookahead.take(event.value))

    async def ingest_events(stream: Any) -> None:
        async for events in stream.take_events(size, within=_TAKE_WITHIN_S):
            generation = app.consumer_generation_id
            current = [event for event in events if event.message.generation_id == generation]
            for batch in batches_of_events(current, size, settings.topics[0]):
                # After a rebalance the rest comes again, from the fence on; to apply it now could leave a hole.
                if app.consumer_generation_id == generation:
                    await fail_stop(lookahead.take(batch))
            await lookahead.settle()

    app.agent(source)(ingest_batches if settings.worker.consumer == "coalescing" else ingest_events)
    for call, seconds in Housekeeping(worker).timers():
        app.timer(seconds)(_guarded(worker, call))
    return app


def _guarded(worker: Worker, call: Callable[..., Any]) -> Callable[[], Any]:
    """A timer whose failure is told; the next round tries again."""

    async def timer() -> None:
        try:
            await call()
        except StoppingError:
            pass
        except (redis.RedisError, KafkaError, ZombieError, OSError) as exc:
            worker.weather.failed(call.__name__, told(exc) if is_weather(exc) else str(exc))
        else:
            worker.weather.passed(call.__name__)

    timer.__name__ = call.__name__
    return timer


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        OperatorError: a server is away, the topics do not fit the settings or the state, or another pipeline's worker
            is in the consumer group.
    """
    topics = ensure_topics(settings.kafka)
    worker = Worker(settings)
    worker.retry(check_log, topics, settings, worker.store)
    log.info("compiled code is ready after %.1f s", worker.ingest.warm_up())
    name = worker.retry(client_id, worker.client, settings.redis.prefix)
    _join_group(worker, name)
    app = build_app(worker, name)
    spare_garbage_collector()
    sys.setswitchinterval(_SWITCH_S)

    begin_grace = end_after(GRACE_S, log)

    def on_stop_asked() -> None:
        worker.stop_asked()
        begin_grace()

    run_app(app, on_stop_asked)


def _join_group(worker: Worker, name: str) -> None:
    """Check that prefix and consumer group are this pipeline's; a worker that died is still there for a while.

    Raises:
        GroupTakenError: another pipeline's worker stays there.
    """
    settings = worker.settings
    until = time.monotonic() + settings.worker.session_timeout_s + _GROUP_GRACE_S
    client = admin(settings.kafka)
    try:
        while True:
            try:
                worker.retry(check_prefix, worker.client, settings)
                check_group(client, settings, name)
            except GroupTakenError:
                if time.monotonic() > until:
                    raise
                time.sleep(1.0)
            else:
                return
    finally:
        client.close()
