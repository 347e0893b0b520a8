"""Which HTTP stack carries the scorer: aiohttp, Litestar under granian, or a plain ASGI application under granian?

Each answers the same POST of 100 candidates, from the same scorer on the same Redis, in a process of its own; they are
measured in turns. Load is made by wrk, which is not ours (`apt-get install wrk`). Beside the whole answer there is one
without scoring, which shows what the stack itself takes.
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from state_store.client import connect
from state_store.embedded.child import free_port
from state_store.embedded.redis import EmbeddedRedis
from stream.events import RawFeature
from stream.serving.scorer import Candidate, Scorer
from stream.settings import Settings, load_settings

STACKS = ("aiohttp", "litestar", "asgi")
NUM_CANDIDATES = 100
_WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local f = io.open("{body}", "rb"); wrk.body = f:read("*a"); f:close()
"""


class Asked(msgspec.Struct):
    """A request, as the scorer has it."""

    user: str
    candidates: list[Candidate]
    context: Mapping[str, RawFeature] = {}


class Answer(msgspec.Struct):
    """What each stack encodes."""

    version: int
    probability: list[float]


class Answers:
    """What every stack does between decoding and encoding."""

    def __init__(self, url: str, prefix: str) -> None:
        settings = load_settings(environment={}, overrides=[f"redis.prefix={prefix}"], given={"redis.url": url})
        self._scorer = Scorer(settings, connect(settings.redis))
        self._scorer.refresh()

    def answer(self, asked: Asked) -> Answer:
        scored = self._scorer.score(asked.user, asked.context, asked.candidates)
        return Answer(1, scored.tolist())

    def plain(self, asked: Asked) -> Answer:
        return Answer(1, [0.5] * len(asked.candidates))


_decode = msgspec.json.Decoder(Asked).decode
_encode = msgspec.json.encode


def serve_aiohttp(answers: Answers, port: int) -> None:
    from aiohttp import web

    async def score(request: web.Request) -> web.Response:
        return web.Response(
            body=_encode(answers.answer(_decode(await request.read()))), content_type="application/json"
        )

    async def plain(request: web.Request) -> web.Response:
        return web.Response(body=_encode(answers.plain(_decode(await request.read()))), content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/score", score), web.post("/plain", plain)])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=lambda *_: None)


def litestar_app(answers: Answers) -> Any:
    from litestar import Litestar, post

    @post("/score", status_code=200)
    async def score(data: Asked) -> Answer:
        return answers.answer(data)

    @post("/plain", status_code=200)
    async def plain(data: Asked) -> Answer:
        return answers.plain(data)

    return Litestar([score, plain])


def plain_app(answers: Answers) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        how = answers.answer if scope["path"] == "/score" else answers.plain
        body = _encode(how(_decode(b"".join(parts))))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def serve_granian(app: Any, port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
        await server.serve()

    asyncio.run(run())


def publish(settings: Settings) -> None:
    """Weights of a small shop, and their state."""
    from support.serving import publish_some

    publish_some(settings, connect(settings.redis), num_samples=4000, num_users=500, num_items=1000)


def body() -> bytes:
    features = {"title": ["a", "b"], "year": "1990", "genres": ["x", "y"], "decade": "1990s"}
    candidates = [{"item_id": f"i{n}", "features": features} for n in range(NUM_CANDIDATES)]
    context = {"gender": "F", "age": "25", "occupation": "3"}
    return json.dumps({"user": "u7", "context": context, "candidates": candidates}).encode()


def ask(url: str, given: bytes) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, given), timeout=5) as answer:
        return bytes(answer.read())


def load(url: str, script: Path, seconds: int, connections: int) -> dict[str, float]:
    """Requests/s, and median and 99th percentile of their time, ms."""
    called = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(called, capture_output=True, text=True, check=True).stdout
    found = {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])}  # type: ignore[index]
    for percent in (50, 99):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
        found[f"p{percent}_ms"] = float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
    assert "Non-2xx" not in said, said
    return found


def measure(stack: str, url: str, prefix: str, options: argparse.Namespace, script: Path) -> dict[str, Any]:
    port = free_port()
    called = [sys.executable, __file__, "--serve", stack, "--port", str(port), "--redis", url, "--prefix", prefix]
    process = subprocess.Popen(called)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask(f"http://127.0.0.1:{port}/score", body())
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.2)
        return {
            what: load(f"http://127.0.0.1:{port}/{what}", script, options.seconds, options.connections)
            for what in ("score", "plain")
        }
    finally:
        process.terminate()
        process.wait(10)


def main(arguments: list[str]) -> None:
    """Measure, or serve one stack."""
    parser = argparse.ArgumentParser(prog="serve_stack", description=__doc__)
    parser.add_argument("--serve", choices=STACKS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--redis", help=argparse.SUPPRESS)
    parser.add_argument("--prefix", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.serve:
        answers = Answers(options.redis, options.prefix)
        if options.serve == "aiohttp":
            serve_aiohttp(answers, options.port)
        else:
            serve_granian((litestar_app if options.serve == "litestar" else plain_app)(answers), options.port)
        return
    if not shutil.which("wrk"):
        sys.exit("serve_stack: wrk makes the load and is not there: apt-get install wrk")
    stacks = [s for s in STACKS if s == "aiohttp" or (find_spec("granian") and (s == "asgi" or find_spec("litestar")))]
    runs: dict[str, list[dict[str, Any]]] = {stack: [] for stack in stacks}
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
        settings = load_settings(environment={}, overrides=["redis.prefix=stack"], given={"redis.url": server.url})
        publish(settings)
        given, script = Path(folder) / "body.json", Path(folder) / "post.lua"
        given.write_bytes(body())
        script.write_text(_WRK.format(body=given))
        for _ in range(options.repeats):
            for stack in stacks:
                runs[stack].append(measure(stack, server.url, "stack", options, script))
    found = {}
    for stack, each in runs.items():
        found[stack] = {
            f"{what}_{figure}": round(median(run[what][figure] for run in each), 2)
            for what in ("score", "plain")
            for figure in ("rps", "p50_ms", "p99_ms")
        }
        row = found[stack]
        row["score_to_aiohttp"] = round(row["score_rps"] / found["aiohttp"]["score_rps"], 2)
        row["plain_to_aiohttp"] = round(row["plain_rps"] / found["aiohttp"]["plain_rps"], 2)
        print(f"{stack:10}", "  ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
