"""The monitor role: the page's server as a process of its own, beside a pipeline that goes first."""

import logging
import os
from pathlib import Path

from aiohttp import web

from learner.parts import limit_threads
from stream.monitor.access.hosts import Access, is_loopback, page_url
from stream.monitor.page.server import Monitor
from stream.process.garbage import spare_garbage_collector
from stream.process.port import taken
from stream.process.stopping import end_after
from stream.process.store import connect_when_ready
from stream.process.weather import Weather
from stream.settings import Settings

log = logging.getLogger("coldstream.monitor")

_NICE = 5
"""The pipeline goes first, where processors are few."""
_GRACE_S = 5.0
"""From the request to end until it ends, whatever the twin or a thread that asks Redis is at."""
_SLOW_CLIENT_S = 2.0
"""How long a request that is being answered may hold up the end."""


def _beyond_loopback(settings: Settings) -> str:
    names = ", ".join(Access(settings.monitor).names)
    who = "asks for monitor.token" if settings.monitor.token else "has no monitor.token, so it shows figures to anybody"
    return f"monitor.host {settings.monitor.host} is not loopback: it answers to any address and to {names}, and {who}"


def run_monitor(settings: Settings, folder: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PortTakenError: `monitor.host` and `monitor.port` cannot be bound.
    """
    os.nice(_NICE)
    limit_threads(settings.recipe, 1)
    client = connect_when_ready(settings.redis, Weather(log))
    assert client is not None
    host, port = settings.monitor.host, settings.monitor.port

    async def application() -> web.Application:
        app = Monitor(settings, client, folder).app()
        begin_grace = end_after(_GRACE_S, log)

        async def on_shutdown(_: web.Application) -> None:
            begin_grace()

        app.on_shutdown.append(on_shutdown)
        return app

    if not is_loopback(host):
        log.warning(_beyond_loopback(settings))
    spare_garbage_collector()
    try:
        web.run_app(
            application(),
            host=host,
            port=port,
            access_log=None,
            shutdown_timeout=_SLOW_CLIENT_S,
            print=lambda *_: print(f"monitor: {page_url(settings.monitor)}", flush=True),
        )
    except OSError as exc:
        raise taken(settings.monitor, exc) from exc
