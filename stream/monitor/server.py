"""The monitor's own process: a page, its data, Prometheus metrics, health. It reads Redis and touches no hot path."""

import asyncio
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import redis
from aiohttp import web

from state_store.client import TRANSIENT_ERRORS, connect
from state_store.errors import OperatorError
from stream.monitor.health import Health
from stream.monitor.history import HistoryReader
from stream.monitor.lookup import Lookup
from stream.monitor.prometheus import exposition
from stream.monitor.view import View, to_json
from stream.settings import Settings

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
_HOLD_S = 1.0
"""Data asked for within this time is answered from what is at hand."""


class PortTakenError(OperatorError):
    """The page's address cannot be bound."""


def plotly_js() -> str:
    """The plotting library, from its installed wheel: the page works offline."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text()


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
        self._held: dict[str, tuple[float, Any]] = {}
        self._lock = asyncio.Lock()
        self._plotly = plotly_js()

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
        return app

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except TRANSIENT_ERRORS as exc:
            response = web.json_response({"error": f"Redis does not answer: {exc}"}, status=503)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    async def _held_for(self, key: str, make: Any, *args: Any) -> Any:
        """The value of `make(*args)`, at most a second old; made in a thread, as Redis blocks."""
        async with self._lock:
            at, value = self._held.get(key, (0.0, None))
            if not at or time.monotonic() - at > _HOLD_S:
                value = await asyncio.to_thread(make, *args)
                self._held[key] = (time.monotonic(), value)
            return value

    async def _page(self, request: web.Request) -> web.Response:
        name, kind = _PAGE[request.path]
        return web.Response(text=(files("stream.monitor") / "page" / name).read_text(), content_type=kind)

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._plotly, content_type="text/javascript", headers={"Cache-Control": "max-age=86400"}
        )

    async def _runs(self, _: web.Request) -> web.Response:
        return web.json_response(await self._held_for("runs", self._history.runs))

    async def _view_of(self, run: str) -> Any:
        return await self._held_for(f"view:{run}", lambda: {"run": run, **self._view.show(self._history.read(run))})

    async def _show(self, request: web.Request) -> web.Response:
        runs = await self._held_for("runs", self._history.runs)
        run = request.query.get("run") or (runs[-1] if runs else "")
        if run and run not in runs:
            return web.json_response({"error": f"run {run!r} is unknown; known: {runs}"}, status=404)
        shown = await self._view_of(run)
        return web.Response(body=to_json(shown), content_type="application/json")

    async def _pipeline(self, _: web.Request) -> web.Response:
        return web.json_response(await self._held_for("health", self._health.read))

    async def _user(self, request: web.Request) -> web.Response:
        user_id = request.query.get("id", "").strip()
        found = await asyncio.to_thread(self._lookup.user, user_id) if user_id else None
        if found is None:
            return web.json_response({"error": f"user {user_id!r} has never been seen"}, status=404)
        return web.Response(body=to_json(found), content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        runs = await self._held_for("runs", self._history.runs)
        run = runs[-1] if runs else ""
        shown = await self._view_of(run)
        health = await self._held_for("health", self._health.read)
        alarms = len(shown["series"]["alarms"]) if shown["series"] else 0
        return web.Response(body=exposition(shown["now"], health, shown["fields"], alarms), content_type="text/plain")

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, _: web.Request) -> web.Response:
        missing = (await self._held_for("health", self._health.read))["missing"]
        return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)


def run_monitor(settings: Settings, folder: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        PortTakenError: `monitor.host` and `monitor.port` cannot be bound.
    """
    client = connect(settings.redis)
    host, port = settings.monitor.host, settings.monitor.port

    async def application() -> web.Application:
        return Monitor(settings, client, folder).app()

    try:
        web.run_app(
            application(),
            host=host,
            port=port,
            access_log=None,
            print=lambda *_: print(f"monitor: http://{host}:{port}/", flush=True),
        )
    except OSError as exc:
        raise PortTakenError(
            f"monitor.host {host!r}, monitor.port {port}: cannot be bound ({exc.strerror or exc}); set another"
        ) from exc
