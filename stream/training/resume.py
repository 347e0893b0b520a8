"""Where the learner goes on: its newest checkpoint, or the one that it is asked to go back to."""

import logging
import time
from pathlib import Path

import msgspec

from learner.checkpoint import Checkpoint, has_checkpoint, read_latest
from learner.learner import FORMAT, Learner
from learner.recipe import Recipe
from state_store.errors import OperatorError
from state_store.rollout import DamagedRolloutError, Decision, Rewind, RolloutStore
from stream.training.trainer import TrainerState

log = logging.getLogger("coldstream.learner")


class OtherModelError(OperatorError):
    """The checkpoint's model was made with other settings."""


def resume(recipe: Recipe, checkpoints: Path) -> tuple[Learner, TrainerState | None, int]:
    """A learner where the newest checkpoint was.

    Args:
        recipe: of its model.
        checkpoints: their folder.

    Returns:
        the learner; where its trainer was, None if there is no checkpoint; the checkpoint's number.

    Raises:
        OtherModelError: the checkpoint's model was made with other settings, and `learner.new_model` is false.
    """
    found = read_latest(checkpoints)
    if found is None:
        return Learner(recipe), None, 0
    learner = _restored(recipe, found)
    log.info("resumed from %s: %d samples", found.path, learner.num_samples)
    state = msgspec.convert(found.meta["trainer"], TrainerState, strict=False)
    return learner, state, int(found.meta["number"])


def _restored(recipe: Recipe, found: Checkpoint) -> Learner:
    learner, why = Learner(recipe), "it is of a former version"
    if int(found.meta["learner"].get("format", 1)) == FORMAT:
        try:
            learner.restore(found.arrays, found.meta["learner"])
        except (KeyError, ValueError) as exc:
            if not recipe.learner.new_model:
                raise OtherModelError(
                    f"{found.path} holds a model that these settings do not fit ({exc}): start the learner with the "
                    "settings that it was made with, or set learner.new_model=true for a new model that begins behind "
                    "the samples that it has learned from"
                ) from exc
            why = str(exc)
        else:
            return learner
    log.warning(
        "%s holds a model that cannot be continued (%s): a new one begins, with the samples that it has not learned",
        found.path,
        why,
    )
    return Learner(recipe)


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
