"""What the learner does by timers, each step for itself: one that is refused waits, and the others go on."""

import time
from collections.abc import Callable
from pathlib import Path

import redis

from learner.files import passes
from learner.files import told as told_of_disk
from state_store.refusals import is_weather, told
from state_store.weights import StoreUnavailableError
from stream.process.weather import Weather

_LOOK_S = 0.05


class Steps:
    """Runs steps; what keeps one from working is told, and it is tried again after a pause of its own.

    Args:
        weather: where it is told.
        folder: the run folder, for errors.
    """

    def __init__(self, weather: Weather, folder: Path) -> None:
        self._weather = weather
        self._folder = folder
        self._calls: dict[str, tuple[Callable[[], object], float]] = {}
        self._due: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def add(self, name: str, call: Callable[[], object], every_s: float, first_s: float = 0.0) -> None:
        """Have a step done every so often."""
        self._calls[name] = call, every_s
        self._due[name] = time.monotonic() + first_s

    def hurry(self, *names: str) -> None:
        """Have steps done with the next round."""
        for name in names:
            self._due[name] = 0.0

    def run_due(self) -> None:
        """Do what is due."""
        for name, (call, every_s) in self._calls.items():
            if time.monotonic() >= self._due[name] and self.attempt(name, call):
                self._due[name] = time.monotonic() + every_s

    def attempt(self, name: str, call: Callable[[], object], *, at_once: bool = False) -> bool:
        """Do a step, unless it failed a moment ago; returns whether it worked.

        Args:
            name: of the step, for whoever watches.
            call: the step.
            at_once: even if it failed a moment ago.
        """
        if not at_once and time.monotonic() < self._not_before.get(name, 0.0):
            return False
        try:
            call()
        except (redis.RedisError, OSError, StoreUnavailableError) as exc:
            said = self._said(exc)
            if said is None:
                raise
            self._not_before[name] = time.monotonic() + self._weather.failed(name, said)
            return False
        self._weather.passed(name)
        return True

    def until(self, name: str, call: Callable[[], object], asked_to_stop: Callable[[], bool]) -> bool:
        """Do a step again and again until it works; False if asked to stop before."""
        while not asked_to_stop():
            if self.attempt(name, call):
                return True
            time.sleep(_LOOK_S)
        return False

    def _said(self, exc: redis.RedisError | OSError | StoreUnavailableError) -> str | None:
        """What is waited for; None if it does not pass."""
        if isinstance(exc, StoreUnavailableError):
            return str(exc)
        if isinstance(exc, OSError):
            return told_of_disk(exc, self._folder) if passes(exc) else None
        return told(exc) if is_weather(exc) else None
