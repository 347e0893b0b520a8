"""Places at which a process can be made to die or to hang, for fault-injection tests.

`COLDSTREAM_FAILPOINT=name:n` has the process kill itself (SIGKILL: no handler, no flush) at the n-th pass of `name`;
with `name:n:hang` the thread that passes it never goes on. Without the variable a failpoint costs one comparison.
"""

import os
import signal
import threading

from stream.environment import FAILPOINT

WORKER_POINTS = ("worker.before_apply", "worker.after_apply")
LEARNER_POINTS = (
    "learner.after_step",
    "checkpoint.before_write",
    "checkpoint.half_written",
    "checkpoint.before_rename",
    "checkpoint.before_manifest",
    "checkpoint.before_trim",
    "merge.before_write",
    "merge.half_written",
    "merge.before_rename",
    "merge.written",
    "publish.before",
    "chunk.before_write",
    "chunk.written",
    "publish.before_manifest",
    "publish.before_removal",
    "publish.after",
)
GROUP_POINTS = (
    "group.before_learn",
    "group.after_learn",
    "group.before_exchange",
    "group.half_exchanged",
    "group.after_exchange",
    "group.before_take_changes",
    "group.after_take_changes",
    "group.before_take_changed",
    "group.before_encode",
)
"""Of the processes of a group but its leader, which passes those of a learner."""
MONITOR_POINTS = ("twin.before_write", "twin.before_done")

_name, _passes, _way, *_ = (*os.environ.get(FAILPOINT, "").split(":"), "", "")
_left = int(_passes or 1)


def failpoint(name: str) -> None:
    """Die or hang here, if this is the place and the time."""
    global _left  # noqa: PLW0603 - the one counter of the process
    if name != _name:
        return
    _left -= 1
    if _left <= 0 and _way == "hang":
        threading.Event().wait()
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
