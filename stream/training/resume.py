"""Where the learner goes on: its newest checkpoint."""

import logging
from pathlib import Path

import msgspec

from learner.checkpoint import Checkpoint, read_latest
from learner.learner import FORMAT, Learner
from learner.recipe import Recipe
from state_store.errors import OperatorError
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
