"""A clock that tells apart what parts of a running program take, without a change to it."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds by stage, of the wall clock and of this thread's CPU; what a stage calls that is one counts there alone.

    >>> clock = Clock()
    >>> with clock.stage("outer"), clock.stage("inner"):
    ...     pass
    >>> sorted(clock.seconds)
    ['inner', 'outer']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0, 0.0
        self._replaced: list[tuple[Any, str, Any, bool]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens within."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def clear(self) -> None:
        """Begin anew."""
        self.seconds.clear()
        self.cpu.clear()

    def _enter(self, name: str) -> None:
        self._count()
        self._running.append(name)

    def _leave(self) -> None:
        self._count()
        self._running.pop()

    def _count(self) -> None:
        """Up to now, for what is running."""
        wall, cpu = time.perf_counter(), time.thread_time()
        if self._running:
            self.seconds[self._running[-1]] += wall - self._since[0]
            self.cpu[self._running[-1]] += cpu - self._since[1]
        self._since = wall, cpu

    def watch(self, owner: object, attribute: str, name: str) -> None:
        """Time every call of a function from now on, until `release`.

        Args:
            owner: a module, or an object, by which it is called.
            attribute: its name there.
            name: the stage.
        """
        call: Callable[..., Any] = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._enter(name)
            try:
                return call(*args, **kwargs)
            finally:
                self._leave()

        self._replaced.append((owner, attribute, call, attribute in vars(owner)))
        setattr(owner, attribute, timed)

    def release(self) -> None:
        """Put everything back."""
        while self._replaced:
            owner, attribute, call, was_its_own = self._replaced.pop()
            if was_its_own:
                setattr(owner, attribute, call)
            else:
                delattr(owner, attribute)
