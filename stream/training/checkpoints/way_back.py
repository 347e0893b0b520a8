"""The way back to an earlier checkpoint, as an operator or a canary asks for it."""

import logging
import time
from pathlib import Path

from learner.checkpoints.folder import has_checkpoint
from state_store.rollout import DamagedRolloutError, Decision, Rewind, RolloutStore

log = logging.getLogger("coldstream.learner")


class WayBack:
    """A learner's way back to the checkpoint of a kept version, as a rollout asks for it.

    Whoever is killed on the way is asked again: what was done already is done once more, to the same end.

    Args:
        rollouts: where it is asked for.
        checkpoints: their folder.
        folder: id of the run folder.
    """

    def __init__(self, rollouts: RolloutStore, checkpoints: Path, folder: str) -> None:
        self._rollouts = rollouts
        self._checkpoints = checkpoints
        self._folder = folder

    def asked(self) -> Rewind | None:
        """What is asked for; None if nothing is, or nobody can read it, which the gate tells of."""
        try:
            return self._rollouts.read().rewind
        except DamagedRolloutError:
            return None

    def barred(self, asked: Rewind) -> str:
        """Why it cannot be done; empty if it can."""
        if asked.folder != self._folder:
            return f"checkpoint {asked.checkpoint} is of another run folder (id {asked.folder})"
        if not has_checkpoint(self._checkpoints, asked.checkpoint):
            return f"checkpoint {asked.checkpoint} is gone from {self._checkpoints}, or damaged"
        return ""

    def refuse(self, asked: Rewind, why: str) -> None:
        """Say that it is not done."""
        log.warning("the learner stays where it is, and does not go back to version %d: %s", asked.version, why)
        self._answer(asked, f"the learner stays where it is: {why}")

    def done(self, asked: Rewind, num_samples: int) -> None:
        """Say that it is done, and how many samples had been learned since."""
        said = (
            f"the learner went back to checkpoint {asked.checkpoint}; of the {num_samples} samples learned since, it "
            "learns those again that the outbox still has"
        )
        log.warning("version %d: %s", asked.version, said)
        self._answer(asked, said)

    def _answer(self, asked: Rewind, said: str) -> None:
        decision = Decision(time.time_ns() // 1_000_000, "rollback", asked.version, said, "learner")
        # Another request may have come meanwhile.
        self._rollouts.update(lambda now: now.decide(decision, rewind=None) if now.rewind == asked else now)
