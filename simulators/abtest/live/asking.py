"""Visits -> requests to a scorer -> rank scores, over a few connections that stay open.

Legend: V visits, C candidates of each, M candidates of all visits that there are.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
import numpy as np

from simulators.world.items import NONE
from simulators.world.rows import value_name
from simulators.world.world import Visits, World
from state_store.errors import OperatorError

_CONNECTIONS = 8
_PAUSE_S = 0.05
_LONGEST_S = 60.0
"""For how long a scorer may say that one should come again."""
_JSON = {"content-type": "application/json"}


class ScorerError(OperatorError):
    """A scorer does not answer as it should."""


class _Scored(msgspec.Struct, frozen=True):
    rank: float | None
    """None of a score that is no number."""


class _Answer(msgspec.Struct, frozen=True):
    version: int
    degraded: bool
    scores: list[_Scored]


_answer = msgspec.json.Decoder(_Answer)


class Asker:
    """Asks one scorer.

    Args:
        url: of the scorer.
        world: who asks, and what there is.
    """

    def __init__(self, url: str, world: World) -> None:
        self._url, self._world = f"{url.rstrip('/')}/v1/score", world
        parameters = world.parameters
        self._of_users, self._of_items = tuple(parameters.users.attributes), tuple(parameters.items.attributes)
        self._known: dict[int, tuple[int, msgspec.Raw]] = {}
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None
        self.num_degraded = 0
        """Answers of a scorer whom Redis did not tell the state in time."""

    def scores(self, visits: Visits, slots_VC: np.ndarray) -> np.ndarray:
        """Rank scores, (M,) float32, visit by visit; minus infinity of one that is no number.

        Raises:
            ScorerError: the scorer refuses, or does not answer.
        """
        bodies = [self._body(visits, v, slots_VC[v]) for v in range(len(visits))]
        return np.concatenate([np.zeros(0, np.float32), *self._runner.run(self._all(bodies))])

    def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    # Requests -----------------------------------------------------------------------------------------------------

    def _body(self, visits: Visits, v: int, slots_C: np.ndarray) -> bytes:
        users, slot = self._world.users, int(visits.slot_V[v])
        asked = {
            "user": f"u{users.serial_U[slot]}",
            "context": _values(self._of_users, users.tastes.codes_NA[slot]),
            "candidates": [self._item(i) for i in slots_C[slots_C != NONE].tolist()],
            "ts": int(visits.ts_V[v]),
        }
        return msgspec.json.encode(asked)

    def _item(self, slot: int) -> msgspec.Raw:
        """JSON of whatever is in a slot."""
        items = self._world.items
        serial = int(items.serial_I[slot])
        known = self._known.get(slot)
        if known is None or known[0] != serial:
            features = _values(self._of_items, items.tastes.codes_NA[slot])
            known = serial, msgspec.Raw(msgspec.json.encode({"item": f"i{serial}", "features": features}))
            self._known[slot] = known
        return known[1]

    async def _all(self, bodies: Sequence[bytes]) -> list[np.ndarray]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS), timeout=aiohttp.ClientTimeout(total=None)
            )
        return await asyncio.gather(*(self._one(self._session, body) for body in bodies))

    async def _one(self, session: aiohttp.ClientSession, body: bytes) -> np.ndarray:
        until = time.monotonic() + _LONGEST_S
        while True:
            try:
                async with session.post(self._url, data=body, headers=_JSON) as reply:
                    status, said = reply.status, await reply.read()
            except aiohttp.ClientError as exc:
                raise ScorerError(f"{self._url}: {exc or type(exc).__name__}; see the scorer's log") from exc
            if status == 200:
                return self._read(said)
            if status != 503 or time.monotonic() > until:
                raise ScorerError(f"{self._url} answers {status}: {said.decode('utf-8', 'replace'):.300}")
            await asyncio.sleep(_PAUSE_S)

    def _read(self, said: bytes) -> np.ndarray:
        answer = _answer.decode(said)
        self.num_degraded += answer.degraded
        return np.array([-np.inf if one.rank is None else one.rank for one in answer.scores], np.float32)


def _values(names: Sequence[str], codes_A: np.ndarray) -> Mapping[str, str]:
    return {name: value_name(name, code) for name, code in zip(names, codes_A.tolist(), strict=True)}
