"""The state of a user and of candidates in one round trip, or nothing if Redis does not tell it in time."""

import asyncio
import logging
import time
from collections.abc import Sequence

import redis
from redis.exceptions import NoScriptError

from state_store.client import AsyncRedis, drop_idle, script_text
from state_store.entities.packed import PackedReads, PackedState
from state_store.refusals import told
from stream.process.weather import Weather

_STEP = "state"
_PAUSE_S = 0.25
"""After a failure Redis is let alone for as long, and everything is answered at once."""


class StateReader:
    """Reads on an event loop.

    Args:
        client: Redis.
        reads: of the pipeline.
        timeout_s: how long an answer may take.
        log: where it is told that Redis is away.
    """

    def __init__(self, client: AsyncRedis, reads: PackedReads, timeout_s: float, log: logging.Logger) -> None:
        self._client = client
        self._reads = reads
        self._timeout_s = timeout_s
        self._weather = Weather(log)
        self._text = script_text("read_state")
        self._sha = ""
        self._away_until = 0.0

    async def read(self, partition: int, user_id: str, item_ids: Sequence[str]) -> PackedState | None:
        """The state, as of now; None if Redis does not tell.

        Args:
            partition: the user's.
            user_id: of the user.
            item_ids: the candidates.
        """
        if time.monotonic() < self._away_until:
            return None
        keys, args = self._reads.ask(partition, user_id, item_ids)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._run(keys, args)
        except TimeoutError:
            self._failed(f"redis has not answered within {self._timeout_s:g} s (serving.state_timeout_s)")
            return None
        except (redis.RedisError, OSError) as exc:
            self._failed(told(exc))
            await drop_idle(self._client)
            return None
        self._weather.passed(_STEP)
        return self._reads.read(answer)

    async def _run(self, keys: list[str], args: list[object]) -> bytes:
        if not self._sha:
            self._sha = await self._client.script_load(self._text)
        try:
            answer: bytes = await self._client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            answer = await self._client.eval(self._text, len(keys), *keys, *args)
        return answer

    def nothing(self, num_items: int) -> PackedState:
        """What stands for a state that is not known."""
        return self._reads.nothing(num_items)

    def _failed(self, said: str) -> None:
        self._weather.failed(_STEP, said)
        self._away_until = time.monotonic() + _PAUSE_S
