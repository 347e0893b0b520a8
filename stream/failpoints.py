"""Places at which a process can be made to die, for fault-injection tests.

`COLDSTREAM_FAILPOINT=name:n` has the process kill itself (SIGKILL: no handler, no flush) at the n-th pass of `name`.
Without the variable a failpoint costs one comparison.
"""

import os
import signal

VARIABLE = "COLDSTREAM_FAILPOINT"
WORKER_POINTS = ("worker.before_apply", "worker.after_apply")
LEARNER_POINTS = (
    "learner.after_step",
    "checkpoint.before_write",
    "checkpoint.half_written",
    "checkpoint.before_rename",
    "checkpoint.before_trim",
    "publish.before",
    "publish.after",
)

_name, _, _passes = os.environ.get(VARIABLE, "").partition(":")
_left = int(_passes or 1)


def failpoint(name: str) -> None:
    """Die here, if this is the place and the time."""
    global _left  # noqa: PLW0603 - the one counter of the process
    if name != _name:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
