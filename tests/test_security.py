"""Servers that ask for a login: a Kafka with SASL/PLAIN and a Redis with a password, end to end."""

from pathlib import Path

import msgspec
import pytest
import redis
from rich.console import Console

from simulators import synthetic
from simulators.apache_kafka import ApacheKafka, find_kafka
from simulators.demo import Demo
from simulators.producer import PaceSettings
from simulators.replay import ReplaySettings
from state_store.child import NoServerError
from state_store.client import RedisUnavailableError, connect
from state_store.config import RedisSettings
from state_store.embedded import EmbeddedRedis
from stream.settings import Settings, SettingsError, load_settings
from stream.topics import BrokerUnavailableError, ensure_topics

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
        data, replay = synthetic.generate(3000, seed=3), ReplaySettings()
        summary = Demo(live, data, replay, PaceSettings(in_flight=5000), tmp_path, quiet).run()
        assert summary["counts_match"], summary["count_differences"]
        assert summary["samples"]["positive"] + summary["samples"]["negative"] == 3000
        said = str(summary) + "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert SECRET not in said
        with pytest.raises(RedisUnavailableError):
            connect(RedisSettings(url=f"redis://127.0.0.1:{server.port}/0"))
        with pytest.raises(BrokerUnavailableError):
            ensure_topics(msgspec.structs.replace(kafka, password="wrong"))
