"""Processes forked from one that does nothing else: each that dies is started anew."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from state_store.embedded.child import die_with_parent
from stream.process.stopping import GRACE_S

_HEEDED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
_SOON_S = 5.0
"""Whoever dies sooner after its start is given a rest before the next."""
_REST_S = 1.0
_LOOK_S = 0.05


class Forked:
    """Runs functions in processes of their own, until SIGTERM or SIGINT, which they get, too.

    What the process has in memory when it forks they have, as it was; so it must have one thread only.

    Args:
        runs: what is run, by name; nothing of it is to return before it is asked to.
        gone: told the name of each that died.
        log: where deaths are told.
    """

    def __init__(
        self, runs: Mapping[str, Callable[[], None]], gone: Callable[[str], None], log: logging.Logger
    ) -> None:
        self._runs = runs
        self._gone = gone
        self._log = log
        self._names: dict[int, str] = {}
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = dict.fromkeys(runs, 0.0)

    def run(self) -> None:
        """Start all, and see to them until a signal says that it is enough."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            while True:
                self._start_due()
                heard = signal.sigtimedwait(_HEEDED, self._pause_s())
                self._bury()
                if heard is not None and heard.si_signo != signal.SIGCHLD:
                    break
        finally:
            self._end()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _pause_s(self) -> float:
        """Until the next start; a while if none is due."""
        return max(0.0, min(self._due.values(), default=time.monotonic() + _REST_S) - time.monotonic())

    def _start_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, at in self._due.items() if at <= now]:
            del self._due[name]
            self._started[name] = now
            self._names[self._fork(self._runs[name])] = name

    def _fork(self, run: Callable[[], None]) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            die_with_parent(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
            if os.getppid() == parent:
                run()
            status = 0
        except Exception as exc:  # noqa: BLE001 - the last that is heard of it
            self._log.error("a process of the scorer ends", exc_info=exc)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _bury(self) -> None:
        """See who has died, and when each is to start anew."""
        while self._names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            name, now = self._names.pop(pid), time.monotonic()
            self._gone(name)
            self._due[name] = now if now - self._started[name] > _SOON_S else now + _REST_S
            code = os.waitstatus_to_exitcode(status)
            self._log.warning("%s (process %d) ended with status %d: it is started anew", name, pid, code)

    def _end(self) -> None:
        """Ask all to end, and have those end that do not."""
        for pid in self._names:
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_S + _REST_S
        while self._names:
            signal.sigtimedwait((signal.SIGCHLD,), max(_LOOK_S, until - time.monotonic()))
            while self._names and (pid := os.waitpid(-1, os.WNOHANG)[0]):
                del self._names[pid]
            if time.monotonic() >= until:
                for pid in self._names:
                    os.kill(pid, signal.SIGKILL)
