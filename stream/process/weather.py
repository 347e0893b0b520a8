"""What a role waits for: servers that are away or say no, a disk that is full. None of it ends a role.

Told once when it begins, summed up while it lasts, and told again when it ends, however often it was tried meanwhile.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from threading import Lock

import msgspec

from stream.process.backoff import backoff_s

_REMIND_S = 60.0


class Condition(msgspec.Struct, frozen=True):
    """Something that a role waits for."""

    step: str
    """What cannot be done: apply, checkpoint, publish, ..."""
    said: str
    """Why, as it was said first."""
    since_ms: int
    """Wall clock at which it began."""
    attempts: int


class _Lasting:
    def __init__(self, said: str, since: float) -> None:
        self.said, self.since, self.attempts, self.told_at = said, since, 0, since


class Weather:
    """The conditions of one process, by the step that they hold up; safe to use from several threads.

    Args:
        log: where they are told.
        clock: wall clock, in seconds.

    >>> weather = Weather(logging.getLogger("example"), clock=lambda: 5.0)
    >>> [weather.failed("publish", "redis is full") for _ in range(3)]
    [0.1, 0.2, 0.5]
    >>> weather.conditions
    [Condition(step='publish', said='redis is full', since_ms=5000, attempts=3)]
    >>> weather.passed("publish")
    >>> weather.conditions
    []
    """

    def __init__(self, log: logging.Logger, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        self._lasting: dict[str, _Lasting] = {}
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()

    def failed(self, step: str, said: str) -> float:
        """A step failed once more; returns how long to wait before it is tried again, in seconds."""
        with self._lock:
            now = self._clock()
            lasting = self._lasting.get(step)
            if lasting is None:
                lasting = self._lasting[step] = _Lasting(said, now)
                self._log.warning("%s waits: %s; tried again until it works", step, said)
            elif now - lasting.told_at >= _REMIND_S:
                lasting.told_at = now
                since = now - lasting.since
                self._log.warning("%s still waits, %.0f s and %d attempts: %s", step, since, lasting.attempts, said)
            pause = backoff_s(lasting.attempts)
            lasting.attempts += 1
            return pause

    def passed(self, step: str) -> None:
        """A step worked; no matter if nothing was known to hold it up."""
        if step not in self._lasting:
            return
        with self._lock:
            lasting = self._lasting.pop(step, None)
            if lasting is not None:
                waited = self._clock() - lasting.since
                self._waited[step] += waited
                self._log.warning("%s goes on after %.1f s and %d attempts", step, waited, lasting.attempts)

    def forget(self, steps: Iterable[str]) -> None:
        """Steps that are no longer to be done: nobody waits for them."""
        with self._lock:
            for step in steps:
                self._lasting.pop(step, None)

    @property
    def conditions(self) -> list[Condition]:
        """What is waited for now, longest first."""
        with self._lock:
            lasting = sorted(self._lasting.items(), key=lambda item: item[1].since)
            return [Condition(step, c.said, round(c.since * 1000), c.attempts) for step, c in lasting]

    @property
    def waited_s(self) -> dict[str, float]:
        """Seconds that each step has waited so far, those that last included."""
        with self._lock:
            total = dict(self._waited)
            now = self._clock()
            for step, lasting in self._lasting.items():
                total[step] = total.get(step, 0.0) + now - lasting.since
            return total
