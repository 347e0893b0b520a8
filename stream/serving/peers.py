"""Scorers of one machine ask each other: which of them remembers what was answered, that was shown now."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

log = logging.getLogger("coldstream.serving")

_TIMEOUT_S = 1.0
_LIMIT = 64 << 20
"""A question is a request's body, which `serving.max_body_bytes` has bounded already."""


class Asked(msgspec.Struct, frozen=True):
    """What a scorer asks the others."""

    imp_ids: list[str]
    ts: int | None


_asked = msgspec.json.Decoder(Asked)
_unknown = msgspec.json.Decoder(list[str])


class Peers:
    """The other scorers that answer on this port, by sockets in a folder that only this user can enter.

    Args:
        folder: where each has its socket.
        place: of this one.
        count: how many there are.
        show: what a scorer does when it is told that something was shown; returns the ids that it does not remember.
    """

    def __init__(
        self, folder: Path, place: int, count: int, show: Callable[[Sequence[str], int | None], list[str]]
    ) -> None:
        self._folder = folder
        self._place = place
        self._others = [other for other in range(count) if other != place]
        self._show = show

    def _path(self, place: int) -> Path:
        return self._folder / f"{place}.sock"

    async def listen(self) -> asyncio.Server:
        """Answer what the others ask."""
        path = self._path(self._place)
        path.unlink(missing_ok=True)
        return await asyncio.start_unix_server(self._answer, path, limit=_LIMIT)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = _asked.decode(await reader.readline())
            writer.write(msgspec.json.encode(self._show(asked.imp_ids, asked.ts)) + b"\n")
            await writer.drain()
        except (OSError, ValueError, msgspec.MsgspecError) as exc:
            log.warning("another scorer's question was not answered: %s", exc)
        finally:
            writer.close()

    async def show(self, imp_ids: list[str], ts: int | None) -> list[str]:
        """Have it written that something was shown, by whoever remembers it; returns the ids that nobody does.

        Args:
            imp_ids: of the scores, in the order in which they were shown.
            ts: event time, ms; now if it is None.
        """
        unknown = self._show(imp_ids, ts)
        for place in self._others:
            if not unknown:
                break
            try:
                # All of them, so that each keeps its position.
                theirs = set(await self._ask(place, Asked(imp_ids, ts)))
            except (OSError, TimeoutError, ValueError, msgspec.MsgspecError) as exc:
                log.warning("scorer %d was not to be asked what it remembers: %s", place, exc)
                continue
            unknown = [imp_id for imp_id in unknown if imp_id in theirs]
        return unknown

    async def _ask(self, place: int, asked: Asked) -> list[str]:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(self._path(place), limit=_LIMIT)
            try:
                writer.write(msgspec.json.encode(asked) + b"\n")
                await writer.drain()
                return _unknown.decode(await reader.readline())
            finally:
                writer.close()
