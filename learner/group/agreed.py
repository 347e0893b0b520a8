"""What all processes of a group agree on: who is who, and what the leader has all of them do."""

from enum import IntEnum
from typing import NamedTuple

LEADER = 0
"""Its rank: it has the samples, and says what is to be done."""


class GroupLostError(RuntimeError):
    """Another process of the group has ended, or does not answer: the group cannot go on."""


class Place(NamedTuple):
    """Where a process is in its group."""

    rank: int
    size: int
    """N, processes of the group."""
    url: str = "env://"
    """Where they meet: `tcp://HOST:PORT` of the leader; `env://` takes that from MASTER_ADDR and MASTER_PORT."""
    local_rank: int = 0
    """Its rank among those on its machine, of which each takes another GPU."""


class Command(IntEnum):
    """One thing; what is said besides, and what each answers, is told by `learner.group.member.Member`."""

    BEGIN = 0
    """Make a new model; the recipe is said."""
    LEARN = 1
    """Learn one's own samples of a block."""
    EXCHANGE = 2
    """Put together what all share."""
    EVICT = 3
    TAKE_CHANGES = 4
    """For a checkpoint."""
    RESTORE = 5
    TAKE_CHANGED = 6
    """For a version of the weights."""
    ENCODE = 7
    NORMS = 8
    STOP = 9
