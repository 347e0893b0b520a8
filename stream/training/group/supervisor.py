"""Starts the processes of a group on this machine; when one of them ends, all are started anew, from the checkpoint."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from state_store.embedded.child import die_with_parent, free_port
from stream.environment import FAILPOINT
from stream.process.backoff import backoff_s
from stream.process.stopping import GRACE_S
from stream.training.group.place import LOST

log = logging.getLogger("coldstream.learner")

_HEEDED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
_ENDINGS = (signal.SIGTERM, signal.SIGINT)
_REST_S = 5.0
"""How long the others take to notice that one has ended."""
_LOOK_S = 0.5
_WELL_S = 60.0
"""A group that was whole for so long has not failed at its start."""


class Supervisor:
    """Runs one command as the processes of a group, until they have ended or a signal says that it is enough.

    Args:
        command: run by each, which finds its place in the environment.
        size: N, processes.
        environment: for all of them.
    """

    def __init__(self, command: Sequence[str], size: int, environment: Mapping[str, str]) -> None:
        self._command, self._size, self._environment = list(command), size, dict(environment)
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Returns the exit status that the leader ended with."""
        before, attempt = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED), 0
        try:
            while True:
                started = time.monotonic()
                self._start()
                status = self._watch()
                if status is not None:
                    return status
                attempt = 0 if time.monotonic() - started > _WELL_S else attempt + 1
                pause_s = backoff_s(attempt)
                log.warning("the group of %d learners starts anew from its checkpoint in %.1f s", self._size, pause_s)
                # A death is wanted once.
                self._environment.pop(FAILPOINT, None)
                if signal.sigtimedwait(_ENDINGS, pause_s) is not None:
                    return 0
        finally:
            self._end()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self) -> None:
        port = free_port()
        for rank in range(self._size):
            place = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self._size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            # They meet on this machine alone, whatever its name resolves to.
            loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                env=loopback | self._environment | place,
                preexec_fn=_begin,  # noqa: PLW1509 - system calls; nothing that a lock could hold up
                start_new_session=True,
            )
            self._children.append(child)

    def _watch(self) -> int | None:
        """The status to end with; None if the group is to start anew. No process of it is left then."""
        asked = False
        while all(child.poll() is None for child in self._children):
            heard = signal.sigtimedwait(_HEEDED, _LOOK_S)
            if heard is not None and heard.si_signo != signal.SIGCHLD and not asked:
                asked = True
                # The leader has the others end when it is done.
                self._children[0].terminate()
                self._wait(self._children[:1], GRACE_S + _REST_S)
        self._wait(self._children, _REST_S)
        ended = [child.poll() for child in self._children]
        self._end()
        leader = ended[0]
        if asked:
            return leader if leader is not None and leader >= 0 else 0
        if leader is not None and leader >= 0 and leader != LOST:
            return leader
        log.warning(
            "a process of the group has ended: %s",
            ", ".join(
                f"rank {rank} {'had to be ended' if status is None else f'with status {status}'}"
                for rank, status in enumerate(ended)
            ),
        )
        return None

    def _wait(self, children: Sequence[subprocess.Popen[bytes]], longest_s: float) -> None:
        until = time.monotonic() + longest_s
        while any(child.poll() is None for child in children) and time.monotonic() < until:
            signal.sigtimedwait((signal.SIGCHLD,), _LOOK_S)

    def _end(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        self._children = []


def _begin() -> None:
    die_with_parent(signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)


def supervise(arguments: Sequence[str], size: int) -> int:
    """Run this command, with these arguments, as a group; returns its exit status."""
    return Supervisor([sys.executable, "-m", "stream.command.cli", *arguments], size, os.environ).run()
