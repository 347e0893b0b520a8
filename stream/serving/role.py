"""The serve role: the scorer as a process of its own."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import redis
import torch
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from learner.fast.warm_up import warm_up
from learner.named import ArraysError
from state_store.client import connect_on_loop
from state_store.refusals import is_weather, told
from state_store.weights import WeightsError, WeightStore
from stream.process.garbage import spare_garbage_collector
from stream.process.port import need_port
from stream.process.stopping import GRACE_S, end_after
from stream.process.store import connect_when_ready
from stream.process.weather import Weather
from stream.serving.address import serving_url
from stream.serving.scorer import packed_reads
from stream.serving.service import Service
from stream.serving.shown import ShownLog
from stream.serving.state import StateReader
from stream.serving.versions import Versions
from stream.serving.web.http import Application
from stream.serving.web.routes import Routes
from stream.settings import Settings

log = logging.getLogger("coldstream.serving")

_POLL_S = 0.1
_SWITCH_S = 0.0005
"""How long a thread that loads weights may keep the interpreter when a request comes."""
_READ_HEADER_MS = 10_000


class Serving:
    """Everything around the application: its connections, its weights, its end.

    Args:
        settings: effective settings; `redis.url` is set, and `kafka.url` with `serving.log`.
        client: Redis.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._weather = Weather(log)
        self._versions = Versions(WeightStore(client, settings.redis.prefix), settings.recipe)
        self._on_loop = connect_on_loop(settings.redis, client)
        state = StateReader(self._on_loop, packed_reads(settings), settings.serving.state_timeout_s, log)
        self._service = Service(settings, self._versions, state)
        self._shown = ShownLog(settings, log) if settings.serving.log else None
        routes = Routes(settings, self._service, self._shown)
        self.application = Application(settings.serving, routes.find, routes.figures)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        serving = self._settings.serving
        server = Server(
            self.application,
            address=serving.host,
            port=serving.port,
            interface=Interfaces.ASGINL,
            websockets=False,
            backlog=1024,
            backpressure=serving.max_concurrent * 4,
            http1_settings=HTTP1Settings(header_read_timeout=_READ_HEADER_MS),
            log_enabled=False,
            ssl_cert=Path(serving.cert_file) if serving.cert_file else None,
            ssl_key=Path(serving.key_file) if serving.key_file else None,
        )
        loop, begin_grace = asyncio.get_running_loop(), end_after(GRACE_S, log)

        def stop() -> None:
            begin_grace()
            server.stop()  # type: ignore[no-untyped-call]

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._poll())]
        print(f"serving: {serving_url(serving)}", flush=True)
        try:
            await server.serve()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._shown is not None:
                await asyncio.to_thread(self._shown.close)
            await self._on_loop.aclose()

    async def _follow(self) -> None:
        """Load what is published, in a thread."""
        log.info("compiled code is ready after %.1f s", await asyncio.to_thread(warm_up))
        self._service.is_warm = True
        while True:
            pause = self._settings.serving.refresh_s
            try:
                if await asyncio.to_thread(self._versions.refresh) and self._versions.num_swaps == 1:
                    spare_garbage_collector()
                self._weather.passed("weights")
            except (WeightsError, ArraysError) as exc:
                self._weather.failed("weights", str(exc))
            except redis.RedisError as exc:
                if not is_weather(exc):
                    log.error("weights cannot be read", exc_info=exc)
                pause = max(pause, self._weather.failed("weights", told(exc)))
            await asyncio.sleep(pause)

    async def _poll(self) -> None:
        """Hear what has become of impressions."""
        while self._shown is not None:
            self._shown.poll()
            await asyncio.sleep(_POLL_S)


def run_serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PortTakenError: `serving.host` and `serving.port` cannot be bound.
    """
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_S)
    client = connect_when_ready(settings.redis, Weather(log))
    assert client is not None
    need_port(settings.serving)

    async def serve() -> None:
        await Serving(settings, client).run()

    asyncio.run(serve())
