"""The processes of a learner that is a group of them, and how one of them dies."""

import os
import random
import signal
from contextlib import suppress

from stream.command.roles import Role, wait_until
from stream.process.children import children_of, variable_of

_STALLED_S = 60.0


def ranks_of(learner: Role) -> dict[int, int]:
    """Rank -> process id of those that run; none while the group starts anew."""
    found: dict[int, int] = {}
    for child in children_of(learner.pid):
        # It may have ended meanwhile.
        with suppress(FileNotFoundError, ProcessLookupError):
            rank = variable_of(child, "RANK")
            if rank is not None:
                found[int(rank)] = child
    return found


def kill_one_of(learner: Role, rng: random.Random) -> str:
    """SIGKILL for one process of a group, whichever; returns which, in words."""
    wait_until(lambda: bool(ranks_of(learner)), "the learner's processes", [learner], stalled_after_s=_STALLED_S)
    rank, pid = rng.choice(sorted(ranks_of(learner).items()))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"learner: rank {rank}"
