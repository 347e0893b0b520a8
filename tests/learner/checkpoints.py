"""A learner's checkpoint, and a learner that goes on from it."""

from pathlib import Path

from learner.checkpoints.folder import read_latest, write_checkpoint
from learner.learner import Learner


def write(learner: Learner, folder: Path) -> None:
    """What it is now, on disk."""
    arrays, meta = learner.state()
    write_checkpoint(folder, 1, arrays, {"learner": meta})


def restore(learner: Learner, folder: Path) -> None:
    """Make it what was written."""
    found = read_latest(folder)
    assert found is not None
    learner.restore(found.arrays, found.meta["learner"])
