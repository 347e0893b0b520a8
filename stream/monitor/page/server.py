"""The monitor's own process: a page, its data, Prometheus metrics, health, and the frozen twin. It reads Redis and
touches no hot path."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import redis
from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from learner.files import passes
from learner.files import told as told_of_disk
from state_store.refusals import is_weather, told
from stream.monitor.access.hosts import Access
from stream.monitor.figures.bucket import Bucket
from stream.monitor.history.abtest import progress_of
from stream.monitor.history.history import COHORTS, SERVED, TWIN, HistoryReader, task_series
from stream.monitor.page.health import Health
from stream.monitor.page.lookup import Lookup
from stream.monitor.page.view import View, to_json
from stream.monitor.page.waits import answers
from stream.monitor.prometheus import exposition
from stream.monitor.twin.twin import Twin
from stream.process.weather import Weather
from stream.secrets import SECRETS
from stream.settings import Settings

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/rollout.js": ("rollout.js", "text/javascript"),
    "/abtest.js": ("abtest.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_OPEN = (*_PAGE, "/plotly.js", "/healthz")
"""What carries no figures, and asks for no token."""
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
_HOLD_S = 1.0
"""Data asked for within this time is answered from what is at hand."""
_VIEWS_KEPT = 8
_TWIN_EVERY_S = 2.0
_NONE: list[Bucket] = []
"""Of twin and of what was served, for the tasks besides the main one."""

log = logging.getLogger("coldstream.monitor")


class Shown(msgspec.Struct, frozen=True):
    """A run as it is shown, and what it was made of."""

    sources: tuple[list[Bucket], ...]
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
        has_figures = [task.name for task in settings.labels if not (task.is_main or task.value_unit)]
        others = [name for name in has_figures if name in settings.learned_tasks]
        self._task_views = {name: View(settings, has_weights=False) for name in others}
        self._folder = folder
        self._weather = Weather(log)
        self._health = Health(settings, client, folder, self._weather)
        self._lookup = Lookup(settings, client, folder)
        self._twin_state = ""
        self._held: dict[str, tuple[float, Any]] = {}
        self._shown: dict[tuple[str, str, bool], Shown] = {}
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
        app.router.add_get("/api/abtest", self._test)
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
        twin: Twin | None = None
        while self._settings.monitor.twin_share:
            pause = _TWIN_EVERY_S
            try:
                if twin is None:
                    twin = await asyncio.to_thread(Twin, self._settings, self._client, self._folder)
                runs = await asyncio.to_thread(self._history.runs)
                if runs:
                    await asyncio.to_thread(twin.poll, runs[-1], time.time_ns() // 1_000_000)
                self._twin_state = twin.state
                self._weather.passed("twin")
            except (redis.RedisError, OSError) as exc:
                said = self._said(exc)
                if said is None:
                    raise
                self._twin_state = SECRETS.mask(f"waits: {said}")
                pause = max(pause, self._weather.failed("twin", said))
            await asyncio.sleep(pause)

    def _said(self, exc: redis.RedisError | OSError) -> str | None:
        """What is waited for; None if it does not pass."""
        if isinstance(exc, OSError):
            return told_of_disk(exc, self._folder) if self._folder is not None and passes(exc) else None
        return told(exc) if is_weather(exc) else None

    def _twin_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._twin_state = SECRETS.mask(f"ended: {task.exception()}")
            log.error("the frozen twin ended; the page goes on without it", exc_info=task.exception())

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        refused = self._refused(request)
        try:
            response: web.StreamResponse = refused or await handler(request)
        except redis.RedisError as exc:
            if not is_weather(exc):
                raise
            response = web.json_response({"error": SECRETS.mask(told(exc))}, status=503)
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

    async def _view_of(self, run: str, task: str = "", *, fading: bool = False) -> Shown:
        shown: Shown = await self._held_for(f"view:{run}:{task}:{fading}", self._make_view, run, task, fading)
        return shown

    def _make_view(self, run: str, task: str, fading: bool) -> Shown:
        """The view of a task, or of the main one, made anew only if there is something new to see."""
        if task in self._task_views:
            sources: tuple[list[Bucket], ...] = self._history.read(run, task_series(task)), _NONE, _NONE
            shows = self._task_views[task]
        else:
            sources = tuple(self._history.read(run, series) for series in (COHORTS, TWIN, SERVED))
            shows = self._view
        held = self._shown.get((run, task, fading))
        if held is not None and all(a is b for a, b in zip(held.sources, sources, strict=True)):
            return held
        view = {"run": run, **shows.show(*sources, fading=fading)}
        body = to_json(view)
        shown = Shown(sources, view, body, f'"{crc32(body):08x}"')
        self._shown[run, task, fading] = shown
        if len(self._shown) > _VIEWS_KEPT:
            del self._shown[next(iter(self._shown))]
        return shown

    async def _show(self, request: web.Request) -> web.Response:
        runs = await self._held_for("runs", self._history.runs)
        run = request.query.get("run") or (runs[-1] if runs else "")
        if run and run not in runs:
            return web.json_response({"error": f"run {run!r} is unknown; known: {runs}"}, status=404)
        task = request.query.get("task", "")
        known = [self._settings.main_task.name, *self._task_views]
        if task and task not in known:
            said = f"task {task!r} has no figures by cohort; there are those of {known}"
            return web.json_response({"error": said}, status=404)
        shown = await self._view_of(run, task, fading=request.query.get("fading") == "1")
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

    async def _test(self, _: web.Request) -> web.Response:
        return web.Response(body=await asyncio.to_thread(progress_of, self._folder), content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        health = await self._held_for("health", self._health.read)
        view = await self._newest_view() if answers(health["waits"]) else None
        body = await asyncio.to_thread(exposition, view or self._view.show([], []), health)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _newest_view(self) -> dict[str, Any] | None:
        """Of the newest run; None while Redis does not answer."""
        try:
            runs = await self._held_for("runs", self._history.runs)
            return (await self._view_of(runs[-1] if runs else "")).view
        except redis.RedisError as exc:
            if not is_weather(exc):
                raise
            return None

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _: web.Request) -> web.Response:
        missing = (await self._held_for("health", self._health.read))["missing"]
        return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)
