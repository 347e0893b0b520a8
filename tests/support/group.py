"""A group of learners on this machine, of which the caller's process is the leader."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from learner.group.agreed import Place
from learner.group.wire import Wire, dismiss
from state_store.embedded.child import free_port, spawn

FOLLOW = """
import sys
from learner.group.follower import follow_at

follow_at(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
"""


@contextmanager
def group(size: int, follow: str = FOLLOW) -> Iterator[tuple[Wire, list[subprocess.Popen[bytes]]]]:
    """The leader's wire, and the processes of the others, which run `follow`."""
    # Nothing but this machine is to be reached.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    url = f"tcp://127.0.0.1:{free_port()}"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path}
    others = [
        spawn([sys.executable, "-c", follow, str(rank), str(size), url], environment=environment)
        for rank in range(1, size)
    ]
    wire = Wire(Place(0, size, url))
    try:
        yield wire, others
    finally:
        dismiss(wire)
        for other in others:
            try:
                other.wait(20)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
