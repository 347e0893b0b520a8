"""The learner, however many processes it is, and whichever of them this one is."""

import logging
import os
import sys
from pathlib import Path

from learner.group.agreed import GroupLostError, Place
from learner.parts import check_device
from stream.settings import Settings
from stream.training.group.place import LOST, check, place_in
from stream.training.group.supervisor import supervise
from stream.training.role import LearnerRole

log = logging.getLogger("coldstream.learner")


def run_learner(settings: Settings, folder: Path) -> int:
    """Run the learner role until it is asked to stop; returns the exit status.

    Alone, it is this process. As one of a group, which `torchrun` or `supervise` has started, it leads, or follows.
    Else, if there are to be several, this process starts them.

    Args:
        settings: effective settings; `redis.url` is set.
        folder: its run folder.

    Raises:
        GroupError: the environment says what cannot be, or several processes cannot learn that model.
        DeviceError: there is no such device as `learner.device` says.
    """
    check_device(settings.recipe)
    place = place_in(os.environ)
    if place is None and settings.learner.processes == 1:
        LearnerRole(settings, folder).run()
        return 0
    check(settings.recipe)
    if place is None:
        return supervise(sys.argv[1:], settings.learner.processes)
    return _take(place, settings, folder)


def _take(place: Place, settings: Settings, folder: Path) -> int:
    # One learner alone need not know how several talk.
    from stream.training.group.joining import following, leading

    try:
        if place.rank:
            following(place)
        else:
            with leading(place) as learners:
                LearnerRole(settings, folder, learners).run()
    except GroupLostError as exc:
        log.warning("%s", exc)
        return LOST
    return 0
