"""What people decide about weights: which are pinned, how far the learner goes back, whether publishing is held."""

import time
from typing import Literal

import msgspec
import redis

from state_store.errors import OperatorError
from state_store.rollout import Decision, Rewind, Rollout
from state_store.weights import Manifest, WeightStore
from stream.process.status import read_status
from stream.rollout.decisions import rolled_back


class NotKeptError(OperatorError):
    """A version is not among the kept ones."""


class NoWayBackError(OperatorError):
    """The learner cannot go back to a version."""


class NoOnnxError(OperatorError):
    """A package that an export needs is missing."""


def kept_version(weights: WeightStore, version: int) -> Manifest:
    """A kept version; 0: the newest.

    Raises:
        NotKeptError: it is not kept, or none is.
    """
    kept = weights.kept()
    found = next((manifest for manifest in reversed(kept) if version in {0, manifest.version}), None)
    if found is None:
        names = ", ".join(str(manifest.version) for manifest in kept) or "none; a learner publishes them"
        raise NotKeptError(f"version {version or 'any'} is not kept; these are: {names} (publish.keep_versions)")
    return found


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights there are, and what was decided about them."""

    in_force: int
    """Newest version published; 0: none."""
    pinned: int
    why_pinned: str
    stable: int
    hold: str
    held_back: str
    """Why the learner's last attempt did not publish; empty if it did."""
    rewind: Rewind | None
    """What the learner is asked for, and has not done yet."""
    kept: list[Manifest]
    """Oldest first."""
    decisions: tuple[Decision, ...]


class Desk:
    """Where decisions are made.

    Args:
        client: Redis.
        prefix: of the pipeline's keys.
        by: who decides.
    """

    def __init__(self, client: redis.Redis, prefix: str, by: str) -> None:
        self._weights = WeightStore(client, prefix)
        self._client = client
        self._prefix = prefix
        self._by = by

    def overview(self) -> Overview:
        """What there is."""
        rollout, latest = self._weights.rollouts.read(), self._weights.latest()
        status = read_status(self._client, self._prefix)
        return Overview(
            in_force=latest.version if latest is not None else 0,
            pinned=rollout.pinned,
            why_pinned=rollout.why_pinned,
            stable=rollout.stable,
            hold=rollout.hold,
            held_back=status.held_back if status is not None else "",
            rewind=rollout.rewind,
            kept=self._weights.kept(),
            decisions=rollout.decisions,
        )

    def find(self, version: int) -> Manifest:
        """A kept version, or the one in force.

        Raises:
            NotKeptError: it is neither.
        """
        latest, kept = self._weights.latest(), self._weights.kept()
        if latest is not None and version in {0, latest.version}:
            return next((manifest for manifest in kept if manifest.version == latest.version), latest)
        return kept_version(self._weights, version)

    def pin(self, version: int, why: str) -> Rollout:
        """Have scorers serve a kept version until they are told otherwise.

        Raises:
            NotKeptError: it is not kept.
        """
        kept_version(self._weights, version)
        after = self._decide("pin", version, why, pinned=version)
        self._need_kept_still(version)
        return after

    def unpin(self, why: str) -> Rollout:
        """Have scorers follow the newest weights."""
        return self._weights.rollouts.update(
            lambda now: now.decide(self._decision("unpin", now.pinned, why), pinned=0) if now.pinned else now
        )

    def rollback(self, version: int, why: str, *, learner: bool) -> Rollout:
        """Have scorers serve a version, and the learner go back to the checkpoint before it, if that is wanted.

        Args:
            version: a kept one; 0: the stable one, or else the newest kept one before what is served.
            why: for whoever asks later.
            learner: whether the learner goes back, too.

        Raises:
            NotKeptError: it is not kept, or there is none before what is served.
            NoWayBackError: there is no checkpoint of it.
        """
        found = kept_version(self._weights, version) if version else self._before()
        rewind: Rewind | None = None
        if learner:
            if not found.checkpoint:
                raise NoWayBackError(
                    f"version {found.version} has no checkpoint: the learner had written none before it, or has gone "
                    "back behind it since. Leave --learner out, or choose another version"
                )
            rewind = Rewind(found.version, found.checkpoint, found.folder)
        decision = self._decision("rollback", found.version, why)
        after = self._weights.rollouts.update(lambda now: rolled_back(now, decision, rewind))
        self._need_kept_still(found.version)
        return after

    def _before(self) -> Manifest:
        rollout, latest = self._weights.rollouts.read(), self._weights.latest()
        served = rollout.pinned or (latest.version if latest is not None else 0)
        if 0 < rollout.stable < served:
            return kept_version(self._weights, rollout.stable)
        older = [manifest for manifest in self._weights.kept() if manifest.version < served]
        if not older:
            raise NotKeptError(f"no version before {served}, which is served, is kept; there is nothing to go back to")
        return older[-1]

    def hold(self, why: str) -> Rollout:
        """Have the learner publish nothing; it goes on learning."""
        return self._decide("hold", 0, why, hold=why)

    def release(self, why: str) -> Rollout:
        """Have it publish again."""
        return self._decide("release", 0, why, hold="")

    def _decision(
        self, what: Literal["pin", "unpin", "rollback", "hold", "release"], version: int, why: str
    ) -> Decision:
        return Decision(time.time_ns() // 1_000_000, what, version, why, self._by)

    def _decide(self, what: Literal["pin", "hold", "release"], version: int, why: str, **changes: object) -> Rollout:
        decision = self._decision(what, version, why)
        return self._weights.rollouts.update(lambda now: now.decide(decision, **changes))

    def _need_kept_still(self, version: int) -> None:
        """A learner that published meanwhile may not have seen the pin, and let the version go."""
        try:
            kept_version(self._weights, version)
        except NotKeptError:
            self.unpin(f"version {version} was let go of while it was pinned")
            raise
