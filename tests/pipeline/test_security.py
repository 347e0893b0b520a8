"""Servers that ask for a login: a Kafka with SASL/PLAIN and a Redis with a password, end to end."""

import ast
from pathlib import Path

import msgspec
import pytest
import redis
from rich.console import Console
from support.certificates import write_certificates
from support.logs import synthetic_log
from support.tls_proxy import TlsProxy

from simulators.apache_kafka import ApacheKafka, find_kafka
from simulators.pace import PaceSettings
from simulators.replay import ReplaySettings
from simulators.runs.demo import Demo
from state_store.client import RedisUnavailableError, connect
from state_store.config import RedisSettings
from state_store.embedded.child import NoServerError
from state_store.embedded.redis import EmbeddedRedis
from stream.command.doctor import examine
from stream.command.roles import Role, wait_until
from stream.kafka.security import CertificateError
from stream.kafka.topics import BrokerUnavailableError, ensure_topics
from stream.settings import Settings, SettingsError, load_settings

SECRET = "s3cret-w0rd"


def test_a_login_without_a_password_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"kafka\.password"):
        load_settings(environment={}, overrides=["kafka.security=SASL_SSL"])


def test_secrets_are_masked_in_settings_and_errors() -> None:
    overrides = ["kafka.security=SASL_PLAINTEXT", "kafka.username=u", f"kafka.password={SECRET}"]
    settings = load_settings(environment={}, overrides=[*overrides, f"redis.url=redis://u:{SECRET}@127.0.0.1:1/0"])
    assert SECRET not in str(settings.masked())
    with pytest.raises(RedisUnavailableError) as caught:
        connect(settings.redis)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("redis.ca_file=/tmp/ca.pem", r"redis\.ca_file given.*rediss://"),
        ("kafka.ca_file=/tmp/ca.pem", r"kafka\.ca_file given.*SASL_SSL"),
    ],
)
def test_certificates_without_tls_are_refused(override: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(environment={}, overrides=["redis.url=redis://127.0.0.1:6379/0", override])


def test_nothing_is_unpickled() -> None:
    """Pickles run code when they are read; no module reads one, and torch reads none either.

    numba reads its own, where it keeps machine code: beside the byte code, which is as good as that (`cache_folder`).
    One module knows of it, by the error that a damaged one raises.
    """
    modules = [path for package in ("learner", "state_store", "stream", "simulators") for path in iter_modules(package)]
    assert len(modules) > 50
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {getattr(node, "module", None) or "", *(alias.name for alias in node.names)}
                allowed = {"pickle"} if path.name == "compiled.py" and isinstance(node, ast.Import) else set()
                assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib"} - allowed, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path
                assert node.value.id != "pickle" or node.attr == "UnpicklingError", path


def iter_modules(package: str) -> list[Path]:
    return sorted((Path(__file__).parents[2] / package).rglob("*.py"))


@pytest.mark.slow
@pytest.mark.kafka
def test_the_pipeline_runs_behind_tls_logins_and_client_certificates(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pems = write_certificates(tmp_path / "pems")
    try:
        broker = ApacheKafka(find_kafka(), password=SECRET, tls=pems, client_auth="required")
    except NoServerError as exc:
        pytest.skip(str(exc))
    with broker, EmbeddedRedis() as server, TlsProxy(server.port, pems) as proxy:
        with redis.Redis(port=server.port) as administrator:
            administrator.execute_command("ACL", "SETUSER", "shop", "on", f">{SECRET}", "~*", "&*", "+@all")
            administrator.execute_command("ACL", "SETUSER", "default", "off")
        files = {
            "ca_file": str(pems / "ca.pem"),
            "cert_file": str(pems / "client.pem"),
            "key_file": str(pems / "client-key.pem"),
        }
        kafka = msgspec.structs.replace(
            settings.kafka, url=broker.url, security="SASL_SSL", username="coldstream", password=SECRET, **files
        )
        url = f"rediss://shop:{SECRET}@127.0.0.1:{proxy.port}/0"
        live = msgspec.structs.replace(
            settings, kafka=kafka, redis=msgspec.structs.replace(settings.redis, url=url, **files)
        )
        ensure_topics(live.kafka)
        quiet = Console(stderr=True, quiet=True)
        log, how = synthetic_log(3000, seed=3), ReplaySettings()
        summary = Demo(live, log, how, PaceSettings(in_flight=5000), tmp_path, quiet).run()
        assert summary["counts_match"], summary["count_differences"]
        assert [finding for finding in examine(live) if not finding.is_ok] == []
        said = str(summary) + "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert SECRET not in said

        untrusted = {**files, "ca_file": str(pems / "other-ca.pem")}
        refused = []
        # The learner knows no broker.
        for section, name in (("kafka", "worker"), ("redis", "worker"), ("redis", "learner")):
            wrong = msgspec.structs.replace(
                live, **{section: msgspec.structs.replace(getattr(live, section), **untrusted)}
            )
            refused.append((section, Role(name, wrong, tmp_path / f"{section}-{name}").start()))
        for section, role in refused:
            wait_until(lambda role=role: not role.is_running, "the role to refuse", stalled_after_s=30)
            assert role.status == 1
            said = role.log.read_text()
            assert "Traceback" not in said
            assert f"{section}.ca_file" in said
            assert SECRET not in said
        without = msgspec.structs.replace(kafka, cert_file="", key_file="")
        with pytest.raises(BrokerUnavailableError):
            ensure_topics(without)
        with pytest.raises(CertificateError, match=r"kafka\.ca_file '/nowhere"):
            ensure_topics(msgspec.structs.replace(kafka, ca_file="/nowhere/ca.pem"))
        with pytest.raises(RedisUnavailableError, match=r"redis\.ca_file"):
            connect(msgspec.structs.replace(live.redis, ca_file="/nowhere/ca.pem"))
    assert SECRET not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.kafka
def test_the_pipeline_runs_behind_logins(settings: Settings, tmp_path: Path) -> None:
    try:
        broker = ApacheKafka(find_kafka(), password=SECRET)
    except NoServerError as exc:
        pytest.skip(str(exc))
    with broker, EmbeddedRedis() as server:
        with redis.Redis(port=server.port) as administrator:
            administrator.execute_command("ACL", "SETUSER", "shop", "on", f">{SECRET}", "~*", "&*", "+@all")
            administrator.execute_command("ACL", "SETUSER", "default", "off")
        url = f"redis://shop:{SECRET}@127.0.0.1:{server.port}/0"
        kafka = msgspec.structs.replace(
            settings.kafka, url=broker.url, security="SASL_PLAINTEXT", username="coldstream", password=SECRET
        )
        live = msgspec.structs.replace(settings, kafka=kafka, redis=msgspec.structs.replace(settings.redis, url=url))
        ensure_topics(live.kafka)
        quiet = Console(stderr=True, quiet=True)
        log, how = synthetic_log(3000, seed=3), ReplaySettings()
        summary = Demo(live, log, how, PaceSettings(in_flight=5000), tmp_path, quiet).run()
        assert summary["counts_match"], summary["count_differences"]
        assert summary["samples"]["positive"] + summary["samples"]["negative"] == 3000
        said = str(summary) + "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert SECRET not in said
        with pytest.raises(RedisUnavailableError):
            connect(RedisSettings(url=f"redis://127.0.0.1:{server.port}/0"))
        with pytest.raises(BrokerUnavailableError):
            ensure_topics(msgspec.structs.replace(kafka, password="wrong"))
