"""Apache Kafka from a distribution folder, as a child process: one KRaft node on loopback, with a temporary log."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from state_store.embedded.child import ChildServer, NoServerError, free_port

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{port}
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CLIENT:{protocol},CONTROLLER:PLAINTEXT
{login}
{tls}
log.dirs={folder}/logs
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
"""


_SASL = """\
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="coldstream" password="{password}" user_coldstream="{password}";
"""


_TLS = """\
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.client.ssl.client.auth={client_auth}
"""


def find_kafka() -> Path:
    """A Kafka distribution: KAFKA_HOME, or `../shared/kafka` beside the project.

    Raises:
        NoServerError: there is none, or no Java to run it.
    """
    given = os.environ.get("KAFKA_HOME")
    beside = Path(__file__).resolve().parents[2] / "shared" / "kafka"
    home = next(
        (h for h in (Path(given or "/nowhere"), beside) if (h / "bin" / "kafka-server-start.sh").is_file()), None
    )
    if home is None:
        raise NoServerError("kafka: no Apache Kafka: set KAFKA_HOME to the folder of a Kafka 4 distribution")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise NoServerError("kafka: no Java for Apache Kafka: install Java 17, or set JAVA_HOME")
    return home


class ApacheKafka(ChildServer):
    """The node. Its log lives as long as this object's context, also over a `kill` and a `start`.

    Args:
        home: folder of the distribution.
        password: if given, clients must log in (SASL/PLAIN) as user `coldstream` with it.
        tls: folder with `broker.pem` (PKCS 8 key and certificates) and `ca.pem`, if clients are to speak TLS.
        client_auth: whether clients must show a certificate: none, requested or required.
    """

    name = "kafka"
    start_timeout_s = 60.0
    """A Java virtual machine on a busy machine."""

    def __init__(self, home: Path, password: str = "", *, tls: Path | None = None, client_auth: str = "none") -> None:
        super().__init__()
        self._tls = _TLS.format(folder=tls, client_auth=client_auth) if tls else ""
        self._password = password
        self._scripts = home / "bin"
        self._folder = tempfile.TemporaryDirectory(prefix="coldstream-kafka-")
        self._properties = Path(self._folder.name) / "server.properties"

    @property
    def url(self) -> str:
        """Address of the running broker."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Formats the log folder at the first start."""
        if not self._properties.exists():
            self._properties.write_text(
                _PROPERTIES.format(
                    port=self.port,
                    controller=free_port(),
                    folder=self._folder.name,
                    protocol=("SASL_" if self._password else "") + ("SSL" if self._tls else "PLAINTEXT"),
                    login=_SASL.format(password=self._password) if self._password else "",
                    tls=self._tls,
                ),
                encoding="utf-8",
            )
            cluster = self._script("kafka-storage.sh", "random-uuid").strip().splitlines()[-1]
            self._script("kafka-storage.sh", "format", "--standalone", "-t", cluster, "-c", str(self._properties))
        return [str(self._scripts / "kafka-server-start.sh"), str(self._properties)]

    def _script(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._scripts / name), *arguments], capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            raise NoServerError(f"kafka: {name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def stop(self) -> None:
        """End the broker and drop its log."""
        super().stop()
        self._folder.cleanup()
