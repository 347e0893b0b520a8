"""A process joins its group: as its leader, or as another one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from learner.group.agreed import GroupLostError, Place
from learner.group.follower import follow
from learner.group.leader import GroupLearner
from learner.group.wire import Wire, dismiss
from stream.process.failpoints import failpoint
from stream.training.checkpoints.resume import Learners


@contextmanager
def leading(place: Place) -> Iterator[Learners]:
    """As the leader of a group, how learners are made; the others end with the context.

    Raises:
        GroupLostError: another process has ended.
    """
    wire = Wire(place)
    try:
        yield Learners(lambda recipe: GroupLearner(recipe, wire), place.size)
    except GroupLostError:
        raise
    except BaseException:
        dismiss(wire)
        raise
    dismiss(wire)


def following(place: Place) -> None:
    """As another process of a group, do what its leader says: it alone is asked to stop.

    Raises:
        GroupLostError: the leader, or another process, has ended.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    follow(Wire(place, failpoint), failpoint)
