"""How one worker of several leaves the others."""

import random
import time

from simulators.runs.incidents import stopped
from stream.command.roles import Role

_STILL_SESSIONS = (0.7, 1.7)
"""Least and most of a session for which it stands still."""


def leave(worker: Role, session_s: float, rng: random.Random) -> str:
    """Have a worker leave its group; returns how.

    Args:
        worker: one that runs.
        session_s: how long its membership lasts without a sign of it.
        rng: says how.
    """
    way = rng.choice(("left", "from outside", "stood still"))
    if way == "left":
        worker.stop()
    elif way == "from outside":
        worker.kill()
    else:
        with stopped(worker.pid):
            # The others have its partitions when it goes on, or almost.
            time.sleep(session_s * rng.uniform(*_STILL_SESSIONS))
    return way
