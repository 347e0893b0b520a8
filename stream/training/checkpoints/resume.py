"""Where the learner goes on: its newest checkpoint."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from learner.checkpoints.folder import Checkpoint, read_latest, sweep
from learner.checkpoints.segment import Segment
from learner.group.states import GROUP_FORMAT, num_processes, resharded
from learner.learner import FORMAT, Learner
from learner.published.changed import AnyLearner
from learner.recipe import Recipe
from state_store.errors import OperatorError
from stream.training.trainer import TrainerState

log = logging.getLogger("coldstream.learner")


class OtherModelError(OperatorError):
    """The checkpoint's model was made with other settings."""


class Learners(NamedTuple):
    """How a learner is made: as it is, or as a group of several."""

    make: Callable[[Recipe], AnyLearner] = Learner
    num_processes: int = 1


ALONE = Learners()


class Resumed(NamedTuple):
    """Where training goes on."""

    learner: AnyLearner
    state: TrainerState | None
    """Where the trainer was; None if there is no checkpoint."""
    number: int
    """Of the checkpoint."""
    segments: tuple[Segment, ...]
    """What the next one may build on; none if it has to be whole."""


def resume(recipe: Recipe, checkpoints: Path, learners: Learners = ALONE) -> Resumed:
    """A learner where the newest checkpoint was; what a killed one has left half-made is removed.

    Args:
        recipe: of its model.
        checkpoints: their folder.
        learners: how it is made. The checkpoint may be of another number of processes.

    Raises:
        OtherModelError: the checkpoint's model was made with other settings, and `learner.new_model` is false.
    """
    sweep(checkpoints)
    found = read_latest(checkpoints)
    if found is None:
        return Resumed(learners.make(recipe), None, 0, ())
    learner, segments = _restored(recipe, found, learners)
    log.info("resumed from %s: %d samples", found.path, learner.num_samples)
    state = msgspec.convert(found.meta["trainer"], TrainerState, strict=False)
    return Resumed(learner, state, int(found.meta["number"]), segments)


def _restored(recipe: Recipe, found: Checkpoint, learners: Learners) -> tuple[AnyLearner, tuple[Segment, ...]]:
    learner, why = learners.make(recipe), "it is of a former version"
    arrays, meta, segments = found.arrays, found.meta["learner"], found.segments
    if int(meta.get("format", 1)) in (FORMAT, GROUP_FORMAT):
        try:
            if num_processes(meta) != learners.num_processes:
                log.info("the checkpoint is of %d processes: its rows are shared out anew", num_processes(meta))
                arrays, meta = resharded(recipe, arrays, meta, learners.num_processes)
                # Rows have other numbers now: the next checkpoint is whole.
                segments = ()
            learner.restore(arrays, meta)
        except (KeyError, ValueError) as exc:
            if not recipe.learner.new_model:
                raise OtherModelError(
                    f"{found.path} holds a model that these settings do not fit ({exc}): start the learner with the "
                    "settings that it was made with, or set learner.new_model=true for a new model that begins behind "
                    "the samples that it has learned from"
                ) from exc
            why = str(exc)
        else:
            return learner, segments
    log.warning(
        "%s holds a model that cannot be continued (%s): a new one begins, with the samples that it has not learned",
        found.path,
        why,
    )
    return learners.make(recipe), ()
