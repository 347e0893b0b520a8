"""The scorer's ASGI application: limits, token, routes. What it answers is in `routes.py`; HTTP itself is granian's."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from state_store.errors import OperatorError
from stream.events import MalformedEventError
from stream.secrets import SECRETS
from stream.sections import ServingSettings
from stream.serving.forms import Failed
from stream.serving.service import NotReadyError, TooManyError
from stream.serving.web.figures import Figures

log = logging.getLogger("coldstream.serving")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = "application/json"
RETRY = {"retry-after": "1"}
"""Come again."""
_encode = msgspec.json.encode


class Given(msgspec.Struct, frozen=True):
    """A request."""

    path: str
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    """An answer."""

    body: bytes
    status: int = 200
    kind: str = JSON
    headers: Mapping[str, str] = {}


class RefusedError(OperatorError):
    """A request that is not answered, with the status that says why."""

    def __init__(self, status: int, said: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(said)
        self.status, self.headers = status, headers or {}


Handler = Callable[[Given], Awaitable[Reply]]


def failed(status: int, said: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer that says why there is none."""
    return Reply(_encode(Failed(SECRETS.mask(said))), status, JSON, headers or {})


class Application:
    """Answers HTTP requests, one at a time each, on one event loop.

    Args:
        settings: the serving section.
        find: the handler of a method and a path; its name, for the figures; and whether anybody may ask.
        figures: counts what is asked.
    """

    def __init__(
        self,
        settings: ServingSettings,
        find: Callable[[str, str], tuple[Handler, str, bool]],
        figures: Figures,
    ) -> None:
        self._settings = settings
        self._find = find
        self._figures = figures
        self._token = settings.token.encode()
        self._num_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        began, name = time.perf_counter(), "other"
        try:
            handler, name, is_open = self._find(scope["method"], scope["path"])
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            if is_open:
                reply = await handler(Given(scope["path"], headers))
            else:
                self._need_token(headers.get("authorization", ""))
                reply = await self._in_time(handler, scope["path"], headers, receive)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the client gets an answer and the others go on
            reply = _refusal(exc)
        self._figures.answered(name, reply.status, time.perf_counter() - began)
        await _send(send, reply)

    def _need_token(self, authorization: str) -> None:
        kind, _, given = authorization.partition(" ")
        # In a time that does not tell how much of it is right.
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if self._token and not (is_right and kind.lower() == "bearer"):
            raise RefusedError(
                401,
                "this scorer asks for its token (serving.token): Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )

    async def _in_time(self, handler: Handler, path: str, headers: dict[str, str], receive: Receive) -> Reply:
        settings = self._settings
        if self._num_active >= settings.max_concurrent:
            raise RefusedError(
                503, f"{self._num_active} requests are being answered (serving.max_concurrent): come again", RETRY
            )
        self._num_active += 1
        try:
            async with asyncio.timeout(settings.timeout_s):
                body = await _read(receive, headers, settings.max_body_bytes)
                return await handler(Given(path, headers, body))
        except TimeoutError as exc:
            said = f"not done within {settings.timeout_s:g} s (serving.timeout_s): come again"
            raise RefusedError(503, said, RETRY) from exc
        finally:
            self._num_active -= 1


async def _read(receive: Receive, headers: Mapping[str, str], limit: int) -> bytes:
    """The body, if it is not too long.

    Raises:
        RefusedError: it is, it is compressed, or the client went away in the middle of it.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, f"content-encoding {headers['content-encoding']!r}: send it plain")
    said = headers.get("content-length", "0")
    too_long = f"the body is longer than {limit} bytes (serving.max_body_bytes)"
    if said.isdigit() and int(said) > limit:
        raise RefusedError(413, too_long)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the request ended in the middle of its body")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise RefusedError(413, too_long)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _refusal(exc: Exception) -> Reply:
    """What a client is told of an error."""
    match exc:
        case RefusedError():
            return failed(exc.status, str(exc), exc.headers)
        case TooManyError():
            return failed(413, str(exc))
        case MalformedEventError() | msgspec.ValidationError():
            return failed(422, str(exc))
        case msgspec.DecodeError() | UnicodeDecodeError() | RecursionError():
            return failed(400, f"the body is not JSON: {exc}")
        case NotReadyError():
            return failed(503, str(exc), RETRY)
        case _:
            log.error("a request failed", exc_info=exc)
            return failed(500, "a fault of the scorer's own; its log says more")


async def _send(send: Send, reply: Reply) -> None:
    headers = {
        "content-type": reply.kind,
        "content-length": str(len(reply.body)),
        "x-content-type-options": "nosniff",
        **reply.headers,
    }
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
