"""Pause and resume a replay: by the space bar, or by a signal.

SIGUSR1 pauses, SIGUSR2 resumes. The space bar does either, where stdin is a terminal.
"""

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_POLL_S = 0.1


class Controls:
    """Whether a replay is to stand still."""

    def __init__(self) -> None:
        self._going = threading.Event()
        self._going.set()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be written."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Write nothing more for now."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    def toggle(self) -> None:
        """Pause, or go on."""
        (self.resume if self.is_paused else self.pause)()

    def wait(self, seconds: float) -> bool:
        """Wait until it goes on, for so long at most; returns whether it does."""
        return self._going.wait(seconds)


@contextmanager
def listening(controls: Controls) -> Iterator[None]:
    """Follow keys and signals meanwhile; only the main thread may, since signals reach no other."""
    before: dict[int, Any] = {
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, lambda *_: controls.pause()),
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, lambda *_: controls.resume()),
    }
    try:
        with _keys(controls):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _keys(controls: Controls) -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    mode, ended = termios.tcgetattr(terminal), threading.Event()

    def follow() -> None:
        while not ended.is_set():
            # Not by sys.stdin, which would keep further keys to itself.
            if select.select([terminal], [], [], _POLL_S)[0]:
                for _ in range(os.read(terminal, 64).count(b" ")):
                    controls.toggle()

    # Keys come one by one; Ctrl-C interrupts as ever.
    tty.setcbreak(terminal)
    listener = threading.Thread(target=follow, daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()
        termios.tcsetattr(terminal, termios.TCSADRAIN, mode)
