"""The serve role: one process that answers, or several on one port that share one copy of the weights.

Of several, one more loads weights, so that those that answer do nothing else; the process that starts them all does
nothing but that.
"""

import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec
import redis
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from learner.parts import limit_threads, warm_up
from learner.tables.memory import sharing
from state_store.client import connect_on_loop
from stream.process.forked import Forked
from stream.process.garbage import spare_garbage_collector
from stream.process.port import hold_port
from stream.process.stopping import GRACE_S, Stopping, end_after
from stream.process.store import connect_when_ready
from stream.process.weather import Weather
from stream.serving.address import serving_url
from stream.serving.following import Following
from stream.serving.lineup.lineup import Lineup, names_of
from stream.serving.peers import Peers
from stream.serving.scorer import packed_reads
from stream.serving.service import Service
from stream.serving.shown import ShownLog
from stream.serving.state import StateReader
from stream.serving.turns.shared import SharedTurns
from stream.serving.web.figures import Counted
from stream.serving.web.http import Application
from stream.serving.web.routes import NAMES, Routes
from stream.settings import Settings

log = logging.getLogger("coldstream.serving")

_POLL_S = 0.1
_SWITCH_S = 0.0005
"""How long a thread that loads weights may keep the interpreter when a request comes."""
_READ_HEADER_MS = 10_000
_LOOK_S = 0.2
"""How often the loader looks whether it is to end."""
_LOADER = "the loader of weights"


class Place(msgspec.Struct, frozen=True):
    """Of one process among several that answer on a port."""

    number: int
    turns: Mapping[str, SharedTurns]
    """The models, by the names of their weights."""
    counted: Counted
    folder: Path
    """Where they ask each other."""


class Serving:
    """Everything around the application: its connections, its weights, its end.

    Args:
        settings: effective settings; `redis.url` is set, and `kafka.url` with `serving.log`.
        client: Redis.
        place: among several that answer; None: it is the only one, and loads weights itself.
    """

    def __init__(self, settings: Settings, client: redis.Redis, place: Place | None = None) -> None:
        self._settings = settings
        self._lineup = Lineup(settings, client, place.turns if place is not None else None)
        self._following = Following(self._lineup, settings.serving.refresh_s, log)
        self._loads = place is None
        self._on_loop = connect_on_loop(settings.redis, client)
        state = StateReader(self._on_loop, packed_reads(settings), settings.serving.state_timeout_s, log)
        self._service = Service(settings, self._lineup, state)
        self._service.is_warm = place is not None
        self._shown = ShownLog(settings, log) if settings.serving.log else None
        self._peers = None
        if place is not None and self._shown is not None:
            self._peers = Peers(place.folder, place.number, settings.serving.workers, self._shown.show)
        figures = (place.counted, place.number) if place is not None else (Counted(NAMES), 0)
        routes = Routes(settings, self._service, self._shown, self._peers, figures)
        self.application = Application(settings.serving, routes.find, routes.figures)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        server, loop = _server(self._settings, self.application), asyncio.get_running_loop()
        begin_grace = end_after(GRACE_S, log)

        def stop() -> None:
            begin_grace()
            server.stop()  # type: ignore[no-untyped-call]

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        tasks = [asyncio.create_task(task) for task in (self._follow(), self._tell(), self._poll())]
        listening = await self._peers.listen() if self._peers is not None else None
        try:
            await server.serve()
        finally:
            if listening is not None:
                listening.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._shown is not None:
                await asyncio.to_thread(self._shown.close)
            await self._on_loop.aclose()

    async def _follow(self) -> None:
        """Load what is published, in a thread."""
        if not self._loads:
            return
        took_s = await asyncio.to_thread(warm_up, self._settings.recipe, learns=False)
        log.info("compiled code is ready after %.1f s", took_s)
        self._service.is_warm = True
        while True:
            await asyncio.sleep(await asyncio.to_thread(self._following.load))

    async def _tell(self) -> None:
        """Tell of harm that was seen, in a thread."""
        while True:
            await asyncio.sleep(await asyncio.to_thread(self._following.tell, self._service.watch))

    async def _poll(self) -> None:
        """Hear what has become of impressions."""
        while self._shown is not None:
            self._shown.poll()
            await asyncio.sleep(_POLL_S)


def _server(settings: Settings, application: Application) -> Server:
    serving = settings.serving
    return Server(
        application,
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


def run_serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PortTakenError: `serving.host` and `serving.port` cannot be bound.
    """
    limit_threads(settings.recipe, 1)
    sys.setswitchinterval(_SWITCH_S)
    client = connect_when_ready(settings.redis, Weather(log))
    assert client is not None
    with hold_port(settings.serving) as held:
        # The one that was found, where any would do.
        serving = msgspec.structs.replace(settings.serving, port=held.getsockname()[1])
        settings = msgspec.structs.replace(settings, serving=serving)
        print(f"serving: {serving_url(settings.serving)}", flush=True)
        if settings.serving.workers == 1:
            asyncio.run(_serve(settings, client))
        else:
            _serve_forked(settings, client)


async def _serve(settings: Settings, client: redis.Redis, place: Place | None = None) -> None:
    await Serving(settings, client, place).run()


def _serve_forked(settings: Settings, client: redis.Redis) -> None:
    """Several processes that answer, and one that loads, which share what they are made of here."""
    count = settings.serving.workers
    for number in (signal.SIGTERM, signal.SIGINT):
        # While it compiles; afterwards they are waited for.
        signal.signal(number, lambda *_: sys.exit(0))
    log.info("compiled code is ready after %.1f s", warm_up(settings.recipe, learns=False))
    turns = {name: SharedTurns(settings.recipe, count) for name in names_of(settings.serving)}
    with sharing():
        counted = Counted(NAMES, count)
    spare_garbage_collector()
    with tempfile.TemporaryDirectory(prefix="coldstream-serve-") as folder:
        runs = {_LOADER: partial(_load, settings, client, turns)}
        places = {f"scorer {n + 1} of {count}": Place(n, turns, counted, Path(folder)) for n in range(count)}
        runs |= {name: partial(_answer, settings, client, place) for name, place in places.items()}

        def gone(name: str) -> None:
            for shared in turns.values():
                shared.is_gone(places[name].number if name in places else count)

        Forked(runs, gone, log).run()


def _load(settings: Settings, client: redis.Redis, turns: Mapping[str, SharedTurns]) -> None:
    stopping = Stopping(log)
    following = Following(Lineup(settings, client, turns), settings.serving.refresh_s, log)
    while not stopping.asked:
        until = time.monotonic() + following.load()
        while not stopping.asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))


def _answer(settings: Settings, client: redis.Redis, place: Place) -> None:
    for shared in place.turns.values():
        shared.read_as(place.number)
    asyncio.run(_serve(settings, client, place))
