"""A process that was asked to stop ends soon, whatever does not answer it.

Nothing is lost by that: what is not in Redis or in a checkpoint is read again.
"""

import logging
import os
import threading

STOP_WITHIN_S = 8.0
"""Time for a graceful end; process managers send SIGKILL after ten seconds or more."""


def end_within(seconds: float, log: logging.Logger) -> None:
    """Have this process end, with status 0, if it is still there after some time."""

    def end() -> None:
        log.warning("asked to stop %.0f s ago, and something still does not answer: ending", seconds)
        logging.shutdown()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
