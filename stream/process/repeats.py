"""Log lines about one condition: told once, then summed up. Clients say many times a second that a server is away."""

import logging
import re
import time
from collections.abc import Callable

_EVERY_S = 60.0
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
_KEPT = 1000
"""Conditions remembered at a time."""


class Repeats(logging.Filter):
    """Lets the first warning of a kind pass, and one a minute with the number of those between.

    Two lines are of one kind if they come from the same place and differ in numbers only.

    Args:
        clock: seconds.

    >>> now = 0.0
    >>> repeats = Repeats(clock=lambda: now)
    >>> line = lambda n: logging.LogRecord("aiokafka", logging.ERROR, "f.py", 1, f"node {n} is away", None, None)
    >>> repeats.filter(line(1)), repeats.filter(line(2)), repeats.filter(line(3))
    (True, False, False)
    >>> now, again = 61.0, line(4)
    >>> repeats.filter(again), again.getMessage()
    (True, 'node 4 is away (and 2 more such lines in the last 61 s)')
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; it may be given a remark."""
        if not logging.INFO < record.levelno < logging.CRITICAL:
            return True
        kind = (record.name, record.lineno, _NUMBER.sub("#", str(record.msg)))
        now = self._clock()
        told, left_out = self._told.get(kind, (float("-inf"), 0))
        if now - told < _EVERY_S:
            self._told[kind] = (told, left_out + 1)
            return False
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} more such lines in the last {now - told:.0f} s)"
            record.args = ()
        self._told[kind] = (now, 0)
        if len(self._told) > _KEPT:
            del self._told[next(iter(self._told))]
        return True


def sum_up_repeats(logger: logging.Logger | None = None) -> None:
    """Put the filter on every handler of a logger; default: the root."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(f, Repeats) for f in handler.filters):
            handler.addFilter(Repeats())
