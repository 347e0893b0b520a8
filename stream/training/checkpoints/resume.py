"""Where the learner goes on: its newest checkpoint."""

import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from learner.checkpoints.folder import Checkpoint, read_latest, sweep
from learner.checkpoints.segment import Segment
from learner.learner import FORMAT, Learner
from learner.recipe import Recipe
from state_store.errors import OperatorError
from stream.training.trainer import TrainerState

log = logging.getLogger("coldstream.learner")


class OtherModelError(OperatorError):
    """The checkpoint's model was made with other settings."""


class Resumed(NamedTuple):
    """Where training goes on."""

    learner: Learner
    state: TrainerState | None
    """Where the trainer was; None if there is no checkpoint."""
    number: int
    """Of the checkpoint."""
    segments: tuple[Segment, ...]
    """What the next one may build on; none if it has to be whole."""


def resume(recipe: Recipe, checkpoints: Path) -> Resumed:
    """A learner where the newest checkpoint was; what a killed one has left half-made is removed.

    Args:
        recipe: of its model.
        checkpoints: their folder.

    Raises:
        OtherModelError: the checkpoint's model was made with other settings, and `learner.new_model` is false.
    """
    sweep(checkpoints)
    found = read_latest(checkpoints)
    if found is None:
        return Resumed(Learner(recipe), None, 0, ())
    learner, segments = _restored(recipe, found)
    log.info("resumed from %s: %d samples", found.path, learner.num_samples)
    state = msgspec.convert(found.meta["trainer"], TrainerState, strict=False)
    return Resumed(learner, state, int(found.meta["number"]), segments)


def _restored(recipe: Recipe, found: Checkpoint) -> tuple[Learner, tuple[Segment, ...]]:
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
            return learner, found.segments
    log.warning(
        "%s holds a model that cannot be continued (%s): a new one begins, with the samples that it has not learned",
        found.path,
        why,
    )
    return Learner(recipe), ()
