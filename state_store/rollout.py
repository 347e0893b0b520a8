"""What people and judges have decided about weights: which are served, whether more are published; JSON in Redis."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import redis

from state_store.client import script
from state_store.errors import OperatorError
from state_store.keys import Keys

_MOST_DECISIONS = 100
_PINS = ("pin", "rollback", "revert")


class DamagedRolloutError(OperatorError):
    """What stands in Redis is no rollout."""


class Decision(msgspec.Struct, frozen=True):
    """One decision, for whoever asks later."""

    time_ms: int
    """Wall clock."""
    what: Literal["pin", "unpin", "rollback", "promote", "revert", "hold", "release"]
    version: int
    """Of the weights that it is about; 0: of none."""
    why: str
    by: str
    """Who decided: a person, or a part of the pipeline."""


class Rewind(msgspec.Struct, frozen=True):
    """A learner is asked to go back to what it knew."""

    version: int
    """Of the kept weights that it goes back to."""
    checkpoint: int
    """Number of the last one before them."""
    folder: str
    """Id of the run folder that has it."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """What scorers and the learner heed."""

    revision: int = 0
    """Grows with each change."""
    pinned: int = 0
    """Version of the kept weights that scorers serve; 0: the newest."""
    stable: int = 0
    """Newest version that has done no harm; 0: none yet."""
    candidate: int = 0
    """Version that will be the stable one if the newer ones do no harm; 0: none yet."""
    since: int = 0
    """Newest version when the trial of `candidate` against `stable` began; 0: none has begun. It is kept here, as a
    learner that starts from a checkpoint of before that is to judge the same outcomes once more."""
    hold: str = ""
    """Why no weights are published; empty: they are."""
    rewind: Rewind | None = None
    """What a learner is asked for, and has not done yet."""
    decisions: tuple[Decision, ...] = ()
    """Newest last; the last hundred."""

    def decide(self, decision: Decision, **changes: Any) -> "Rollout":
        """The rollout with a decision, and what it changes.

        >>> decided = Rollout().decide(Decision(5, "pin", 7, "clicks fell", "anna"), pinned=7)
        >>> decided.pinned, decided.why_pinned
        (7, 'clicks fell (anna)')
        """
        decisions = (*self.decisions, decision)[-_MOST_DECISIONS:]
        return msgspec.structs.replace(self, decisions=decisions, **changes)

    @property
    def why_pinned(self) -> str:
        """Why, and who said so; empty if nothing is pinned."""
        if not self.pinned:
            return ""
        of = (d for d in reversed(self.decisions) if d.version == self.pinned and d.what in _PINS)
        return next((f"{d.why} ({d.by})" for d in of), "nobody said")

    @property
    def protected(self) -> frozenset[int]:
        """Versions that stay kept, however many are newer."""
        return frozenset({self.pinned, self.stable, self.candidate} - {0})


_rollout = msgspec.json.Decoder(Rollout)


class RolloutStore:
    """Reads and changes the rollout of a pipeline.

    Args:
        client: Redis.
        prefix: of its keys.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = Keys(prefix).rollout
        self._replace = script(client, "replace_expected")

    def read(self) -> Rollout:
        """What is decided now; where nothing was, that the newest weights are served.

        Raises:
            DamagedRolloutError: somebody has written something else there.
        """
        return self._decoded(self._client.get(self._key))

    def update(self, change: Callable[[Rollout], Rollout]) -> Rollout:
        """Change it, as one step: if somebody else was quicker, the change is made to what that one has left.

        Args:
            change: gives the new rollout for the one that is there; may be called more than once. What it raises ends
                the update, and nothing is changed.

        Returns:
            the new rollout, with a revision of its own; the old one, if it is to stay.

        Raises:
            DamagedRolloutError: somebody has written something else there.
        """
        while True:
            found: Any = self._client.get(self._key)
            before = self._decoded(found)
            changed = change(before)
            if changed == before:
                return before
            after = msgspec.structs.replace(changed, revision=before.revision + 1)
            if self._replace(keys=[self._key], args=[found or b"", msgspec.json.encode(after)]):
                return after

    def _decoded(self, found: Any) -> Rollout:
        try:
            return _rollout.decode(found) if found else Rollout()
        except msgspec.MsgspecError as exc:
            raise DamagedRolloutError(
                f"redis key {self._key!r} is no rollout ({exc}); mend it, or delete it: then nothing is pinned or held"
            ) from exc
