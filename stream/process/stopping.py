"""Ending when asked, within a time that holds whatever is away."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

GRACE_S = 8.0
"""From the request until the process ends, if need be in the middle of something: whoever asked waits for 10 s."""


def end_after(grace_s: float, log: logging.Logger) -> Callable[[], None]:
    """Returns a function that, once called, has the process end with status 0 after a grace.

    It is safe to call from a signal handler. What is durable is durable at each moment, so that nothing is lost.
    """
    reader, writer = os.pipe()

    def watch() -> None:
        os.read(reader, 1)
        time.sleep(grace_s)
        log.warning("asked to stop, and not done after %.0f s: ending in the middle of it; nothing is lost", grace_s)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="grace").start()

    def begin() -> None:
        os.write(writer, b".")

    return begin


class Stopping:
    """Takes SIGTERM and SIGINT for a request to end.

    Args:
        log: where it is told if the grace was not enough.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.asked = False
        self._begin_grace = end_after(GRACE_S, log)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        # Nothing that takes a lock: the code that was interrupted may hold it.
        if not self.asked:
            self.asked = True
            self._begin_grace()
