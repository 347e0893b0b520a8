"""The monitor's own process: a page, its data, Prometheus metrics, health, and the frozen twin. It reads Redis and
touches no hot path."""

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import redis
import torch
from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from state_store.client import TRANSIENT_ERRORS, connect
from stream.monitor.figures.bucket import Bucket
from stream.monitor.history.history import TWIN, HistoryReader
from stream.monitor.page.access import Access, is_loopback, page_url
from stream.monitor.page.health import Health
from stream.monitor.page.lookup import Lookup
from stream.monitor.page.port import taken
from stream.monitor.page.view import View, to_json
from stream.monitor.prometheus import exposition
from stream.monitor.twin.twin import Twin
from stream.process.garbage import spare_garbage_collector
from stream.secrets import SECRETS
from stream.settings import Settings

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_OPEN = (*_PAGE, "/plotly.js", "/healthz")
"""What carries no figures, and asks for no token."""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
_HOLD_S = 1.0
"""Data asked for within this time is answered from what is at hand."""
_VIEWS_KEPT = 4
_TWIN_EVERY_S = 2.0
_NICE = 5
"""The pipeline goes first, where processors are few."""

log = logging.getLogger("coldstream.monitor")


class Shown(msgspec.Struct, frozen=True):
    """A run as it is shown, and what it was made of."""

    sources: tuple[list[Bucket], list[Bucket]]
    view: dict[str, Any]
    body: bytes
    """The view as JSON."""
    tag: str
    """Names the body: a browser that has it need not be sent it again."""


def plotly_js() -> str:
    """The plotting library, from its installed wheel: the page works offline."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def page_file(name: str) -> str:
    """One of the page's own files."""
    return (files("stream.monitor.page") / name).read_text(encoding="utf-8")


class Monitor:
    """Answers requests.

    Args:
        settings: effective settings; `redis.url` is set.
        client: Redis.
        folder: the learner's run folder, if it is within reach.
    """

    def __init__(self, settings: Settings, client: redis.Redis, folder: Path | None) -> None:
        self._settings = settings
        self._client = client
        self._history = HistoryReader(client, settings.redis.prefix)
        self._view = View(settings)
        self._health = Health(settings, client)
        self._lookup = Lookup(settings, client, folder)
        self._twin = Twin(settings, client, folder) if settings.monitor.twin_share else None
        self._twin_state = ""
        self._held: dict[str, tuple[float, Any]] = {}
        self._shown: dict[tuple[str, bool], Shown] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._plotly = plotly_js()
        self._access = Access(settings.monitor)

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._errors])
        app.router.add_get("/plotly.js", self._script)
        for path in _PAGE:
            app.router.add_get(path, self._page)
        app.router.add_get("/api/runs", self._runs)
        app.router.add_get("/api/view", self._show)
        app.router.add_get("/api/health", self._pipeline)
        app.router.add_get("/api/user", self._user)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        app.cleanup_ctx.append(self._run_twin)
        return app

    async def _run_twin(self, _: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        task.add_done_callback(self._twin_ended)
        yield
        task.cancel()

    async def _follow(self) -> None:
        """Let the twin score what the learner hands on."""
        while self._twin is not None:
            try:
                runs = await asyncio.to_thread(self._history.runs)
                if runs:
                    await asyncio.to_thread(self._twin.poll, runs[-1], time.time_ns() // 1_000_000)
                self._twin_state = self._twin.state
            except TRANSIENT_ERRORS as exc:
                self._twin_state = SECRETS.mask(f"waits for Redis: {exc}")
            await asyncio.sleep(_TWIN_EVERY_S)

    def _twin_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._twin_state = SECRETS.mask(f"ended: {task.exception()}")
            log.error("the frozen twin ended; the page goes on without it", exc_info=task.exception())

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        refused = self._refused(request)
        try:
            response: web.StreamResponse = refused or await handler(request)
        except TRANSIENT_ERRORS as exc:
            response = web.json_response({"error": SECRETS.mask(f"Redis does not answer: {exc}")}, status=503)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        """Why a request is not answered; None if it is."""
        if request.path == "/healthz":
            return None
        host = request.headers.get("Host", "")
        if not self._access.is_own(host):
            said = f"this monitor is not {host!r}; it answers to {', '.join(self._access.names)}: add monitor.hosts"
            return web.json_response({"error": said}, status=421)
        if request.path not in _OPEN and not self._access.is_allowed(request.headers.get("Authorization", "")):
            said = "this monitor asks for its token (monitor.token): open the page as /#token=TOKEN"
            return web.json_response({"error": said}, status=401, headers={"WWW-Authenticate": "Bearer"})
        return None

    async def _held_for(self, key: str, make: Any, *args: Any) -> Any:
        """The value of `make(*args)`, at most a second old; made in a thread, as Redis blocks."""
        async with self._locks[key]:
            at, value = self._held.get(key, (0.0, None))
            if not at or time.monotonic() - at > _HOLD_S:
                value = await asyncio.to_thread(make, *args)
                self._held[key] = (time.monotonic(), value)
            return value

    async def _page(self, request: web.Request) -> web.Response:
        name, kind = _PAGE[request.path]
        return web.Response(text=page_file(name), content_type=kind)

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._plotly, content_type="text/javascript", headers={"Cache-Control": "max-age=86400"}
        )

    async def _runs(self, _: web.Request) -> web.Response:
        return web.json_response(await self._held_for("runs", self._history.runs))

    async def _view_of(self, run: str, *, fading: bool = False) -> Shown:
        shown: Shown = await self._held_for(f"view:{run}:{fading}", self._make_view, run, fading)
        return shown

    def _make_view(self, run: str, fading: bool) -> Shown:
        """The view, made anew only if there is something new to see."""
        sources = self._history.read(run), self._history.read(run, TWIN)
        held = self._shown.get((run, fading))
        if held is not None and all(a is b for a, b in zip(held.sources, sources, strict=True)):
            return held
        view = {"run": run, **self._view.show(*sources, fading=fading)}
        body = to_json(view)
        shown = Shown(sources, view, body, f'"{crc32(body):08x}"')
        self._shown[run, fading] = shown
        if len(self._shown) > _VIEWS_KEPT:
            del self._shown[next(iter(self._shown))]
        return shown

    async def _show(self, request: web.Request) -> web.Response:
        runs = await self._held_for("runs", self._history.runs)
        run = request.query.get("run") or (runs[-1] if runs else "")
        if run and run not in runs:
            return web.json_response({"error": f"run {run!r} is unknown; known: {runs}"}, status=404)
        shown = await self._view_of(run, fading=request.query.get("fading") == "1")
        headers = {"ETag": shown.tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == shown.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=shown.body, content_type="application/json", headers=headers)

    async def _pipeline(self, _: web.Request) -> web.Response:
        health = await self._held_for("health", self._health.read)
        return web.json_response({**health, "twin": self._twin_state})

    async def _user(self, request: web.Request) -> web.Response:
        user_id = request.query.get("id", "").strip()
        found = await asyncio.to_thread(self._lookup.user, user_id) if user_id else None
        if found is None:
            return web.json_response({"error": f"user {user_id!r} has never been seen"}, status=404)
        return web.Response(body=to_json(found), content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        runs = await self._held_for("runs", self._history.runs)
        run = runs[-1] if runs else ""
        view = (await self._view_of(run)).view
        health = await self._held_for("health", self._health.read)
        body = await asyncio.to_thread(exposition, view, health)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _: web.Request) -> web.Response:
        missing = (await self._held_for("health", self._health.read))["missing"]
        return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)


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
    torch.set_num_threads(1)
    client = connect(settings.redis)
    host, port = settings.monitor.host, settings.monitor.port

    async def application() -> web.Application:
        return Monitor(settings, client, folder).app()

    if not is_loopback(host):
        log.warning(_beyond_loopback(settings))
    spare_garbage_collector()
    try:
        web.run_app(
            application(),
            host=host,
            port=port,
            access_log=None,
            print=lambda *_: print(f"monitor: {page_url(settings.monitor)}", flush=True),
        )
    except OSError as exc:
        raise taken(settings.monitor, exc) from exc
