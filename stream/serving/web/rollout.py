"""What is decided about weights, over HTTP: read it, pin, hold, roll back."""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from state_store.refusals import told
from state_store.rollout import DamagedRolloutError, Decision, Rollout
from stream.rollout.decisions import rolled_back
from stream.sections import ServingSettings
from stream.serving.forms import ArmNow, RollbackAsked, RolloutAsked, RolloutNow
from stream.serving.lineup.lineup import Lineup
from stream.serving.web.http import RETRY, Given, RefusedError, Reply

_encode = msgspec.json.encode
_asked = msgspec.json.Decoder(RolloutAsked).decode
_rollback = msgspec.json.Decoder(RollbackAsked).decode


class RolloutRoutes:
    """Reads and changes the rollout.

    Args:
        settings: the serving section.
        lineup: what is in use here, and where it is decided.
    """

    def __init__(self, settings: ServingSettings, lineup: Lineup) -> None:
        self._settings, self._lineup = settings, lineup
        self._rollouts, self._weights = lineup.rollouts, lineup.weights

    async def show(self, _: Given) -> Reply:
        """What is decided."""
        return await self._answer(self._rollouts.read)

    async def change(self, given: Given) -> Reply:
        """Pin, unpin, hold, release."""
        self._need_right(given)
        asked = _asked(given.body)

        def changed(rollout: Rollout) -> Rollout:
            if asked.revision is not None and asked.revision != rollout.revision:
                raise RefusedError(
                    409, f"the rollout is at revision {rollout.revision}, not {asked.revision}: read it anew"
                )
            if asked.pinned is not None and asked.pinned != rollout.pinned:
                what = "pin" if asked.pinned else "unpin"
                decision = self._decision(what, asked.pinned or rollout.pinned, asked.why, asked.by)
                rollout = rollout.decide(decision, pinned=asked.pinned)
            if asked.hold is not None and asked.hold != rollout.hold:
                what = "hold" if asked.hold else "release"
                rollout = rollout.decide(self._decision(what, 0, asked.hold or asked.why, asked.by), hold=asked.hold)
            return rollout

        return await self._answer(lambda: self._update(asked.pinned or 0, changed))

    async def roll_back(self, given: Given) -> Reply:
        """Serve an earlier version until somebody unpins it; the learner learns on."""
        self._need_right(given)
        asked = _rollback(given.body)

        def update() -> Rollout:
            version = asked.version or self._before()
            decision = self._decision("rollback", version, asked.why, asked.by)
            return self._update(version, lambda rollout: rolled_back(rollout, decision))

        return await self._answer(update)

    # Behind them --------------------------------------------------------------------------------------------------

    def _before(self) -> int:
        """The stable version; without one, the newest that is kept and older than the one in use.

        Raises:
            RefusedError: there is none.
        """
        used = self._lineup.newest.manifest
        stable = self._rollouts.read().stable
        older = [m.version for m in self._weights.kept() if used is None or m.version < used.version]
        if not stable and not older:
            raise RefusedError(409, "no version is kept that is older than the one in use")
        return stable or max(older)

    def _update(self, version: int, change: Callable[[Rollout], Rollout]) -> Rollout:
        kept = sorted(manifest.version for manifest in self._weights.kept()) if version else []
        if version and version not in kept:
            raise RefusedError(409, f"version {version} is not kept; kept are {kept}")
        return self._rollouts.update(change)

    async def _answer(self, call: Callable[[], Rollout]) -> Reply:
        try:
            rollout = await asyncio.to_thread(call)
        except redis.RedisError as exc:
            raise RefusedError(503, f"redis: {told(exc)}", RETRY) from exc
        except DamagedRolloutError as exc:
            raise RefusedError(409, str(exc)) from exc
        arms = self._lineup.arms()
        now = RolloutNow(
            **{name: getattr(rollout, name) for name in ("revision", "pinned", "stable", "candidate", "hold")},
            decisions=list(rollout.decisions),
            canary_share=self._settings.canary_share,
            arms=[ArmNow(arm.name, arm.percent, arm.mirror, arms[arm.name]) for arm in self._settings.arms],
        )
        return Reply(_encode(now))

    def _need_right(self, given: Given) -> None:
        """Whoever has the token may; without one, whoever is on this machine, and no page that a browser shows.

        Raises:
            RefusedError: not so.
        """
        if self._settings.token:
            return
        asked_for = given.headers.get("host", "")
        if not is_loopback(self._settings.host) or not is_loopback(_name_of(asked_for)):
            raise RefusedError(
                403,
                f"serving.host is {self._settings.host!r} (asked for as {asked_for!r}) and there is no serving.token: "
                "anybody could decide this; set one",
            )
        kind = given.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedError(415, f"content-type is {kind!r}, and must be 'application/json'")

    @staticmethod
    def _decision(what: Any, version: int, why: str, by: str) -> Decision:
        return Decision(time.time_ns() // 1_000_000, what, version, why, by)


def _name_of(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine only.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "shop.example")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
