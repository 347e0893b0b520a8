import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from msgspec import inspect

from stream.setting_values import declared
from stream.settings import Settings, SettingsError, load_settings


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[learner]\nmicro_batch = 16\nblock = 128\nseed = 1\n")
    settings = load_settings(file, {"COLDSTREAM_LEARNER__SEED": "2", "HOME": "/"}, ["learner.seed=3"])
    assert (settings.learner.micro_batch, settings.learner.seed) == (16, 3)


def test_a_logs_settings_come_before_every_other_source(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[learner]\nmicro_batch = 16\n")
    of_log = {"learner": {"micro_batch": 8, "seed": 4}, "actions": {"names": ["click"], "positive": ["click"]}}
    settings = load_settings(file, {}, ["monitor.twin_share=0"], of_log)
    assert (settings.learner.micro_batch, settings.learner.seed) == (16, 4)
    assert settings.actions.names == ("click",)
    assert of_log["learner"] == {"micro_batch": 8, "seed": 4}, "the log's own stay as they are"


def test_fields_are_a_list_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    fields = [
        {"name": "user_id", "group": "user", "kind": "id", "state": True},
        {"name": "item_id", "group": "item", "kind": "id"},
        {"name": "hour", "group": "context", "kind": "numeric"},
    ]
    file.write_text(json.dumps({"fields": fields}))
    assert [f.name for f in load_settings(file, {}).fields] == ["user_id", "item_id", "hour"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.micro_bach=64", ["learner.micro_bach", "micro_batch"]),
        ("lerner.micro_batch=64", ["lerner", "learner"]),
        ("learner.micro_batch=0", ["learner.micro_batch", ">= 1", "0"]),
        ("learner.micro_batch=many", ["learner.micro_batch", "int", "many"]),
        ("model.deep=gpt", ["model.deep", "gpt"]),
        ("model.mask_low=0.9", ["mask_low", "0.9", "mask_high"]),
        ("join.window_ms=1", ["lateness_ms <= window_ms", "1"]),
        ('actions.positive=["buy"]', ["buy", "like"]),
        ("join.negative_rate=0", ["join.negative_rate", "0"]),
        ("learner", ["SECTION.NAME=VALUE"]),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(override: str, said: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment={}, overrides=[override])
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_loss_that_needs_all_negatives_is_refused_where_some_are_dropped() -> None:
    with pytest.raises(SettingsError, match=r"negative_rate is 0.5.*'fnw'"):
        load_settings(environment={}, overrides=["join.negative_rate=0.5", "learner.delayed_feedback=fnw"])


def test_a_misspelt_environment_name_fails() -> None:
    with pytest.raises(SettingsError, match=r"learner\.sead"):
        load_settings(environment={"COLDSTREAM_LEARNER__SEAD": "1"})


def test_passwords_are_masked() -> None:
    settings = load_settings(environment={}, overrides=["redis.url=redis://u:secret@db/0"])
    assert "secret" not in str(settings.masked())


SASL = {"COLDSTREAM_KAFKA__SECURITY": "SASL_PLAINTEXT", "COLDSTREAM_KAFKA__USERNAME": "shop"}
ODD_STRINGS = [
    "482913", "2024-01-01", "1e5", "true", "0x1F", "{a=1}", '"abc"', "'q'", "[1]", "inf", "", " x ", "a#b", 'a"b',
    "null", "x\ny", "\u00e7\U0001f511", "%2F", "\\", "{{p0}}", "12:30:00", "'''", '"', "a = 1\nb = 2",
]  # fmt: skip


@pytest.mark.parametrize("text", [text for text in ODD_STRINGS if text])
def test_a_string_of_the_environment_is_taken_as_it_is(text: str, tmp_path: Path) -> None:
    assert load_settings(environment={**SASL, "COLDSTREAM_KAFKA__PASSWORD": text}).kafka.password == text
    assert load_settings(environment={"COLDSTREAM_KAFKA__USERNAME": text}).kafka.username == text
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"kafka": {"password": text}}), encoding="utf-8")
    assert load_settings(file, {}).kafka.password == text


@pytest.mark.parametrize("text", ODD_STRINGS)
def test_a_string_on_the_command_line_may_be_quoted(text: str) -> None:
    quoted = json.dumps(text, ensure_ascii=False)
    assert load_settings(environment={}, overrides=[f"kafka.username={quoted}"]).kafka.username == text
    if not text.strip().startswith(('"', "'")):
        assert load_settings(environment={}, overrides=[f"kafka.username={text}"]).kafka.username == text
    assert load_settings(environment={}, given={"kafka.username": text}).kafka.username == text


def test_what_is_no_string_is_read_as_toml() -> None:
    given = {
        "COLDSTREAM_LEARNER__MICRO_BATCH": "0x20",
        "COLDSTREAM_MODEL__WIDE": "true",
        "COLDSTREAM_PUBLISH__INTERVAL_S": "5e-1",
        "COLDSTREAM_MONITOR__USER_IMPRESSIONS": "[1, 2]",
        "COLDSTREAM_TASKS": '[{name = "buy", positive = ["like"]}]',
    }
    settings = load_settings(environment=given)
    assert (settings.learner.micro_batch, settings.model.wide, settings.publish.interval_s) == (32, True, 0.5)
    assert settings.monitor.user_impressions == (1, 2)
    assert settings.main_task.name == "buy"


def test_a_number_where_a_file_is_to_have_a_string_is_refused_without_its_value(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[kafka]\npassword = 48291377\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"kafka\.password.*`str`") as caught:
        load_settings(file, {})
    assert "48291377" not in str(caught.value)


@pytest.mark.parametrize("secret", ["48291377", "s3cret-w0rd", "p/w#?", "true!", "x\ny-long"])
def test_no_error_shows_a_secret(secret: str, tmp_path: Path) -> None:
    wrong = [
        {**SASL, "COLDSTREAM_KAFKA__USERNAME": "", "COLDSTREAM_KAFKA__PASSWORD": secret},
        {"COLDSTREAM_KAFKA__PASSWORD": secret, "COLDSTREAM_KAFKA__PARTITIONS": "0"},
        {"COLDSTREAM_KAFKA__PASSWORD": secret, "COLDSTREAM_KAFKA__CERT_FILE": "x"},
        {"COLDSTREAM_KAFKA__PASSWORD__X": secret},
        {"COLDSTREAM_MONITOR__TOKEN": f"{secret} "},
        {"COLDSTREAM_REDIS__URL": f"redis://:{secret}@h:port/0"},
        {"COLDSTREAM_REDIS__URL": f"redis://h/0?password={quote(secret, safe='')}&decode_responses=1"},
        {"COLDSTREAM_REDIS__URL": f"redis://u:{quote(secret, safe='')}@h", "COLDSTREAM_REDIS__CA_FILE": "x"},
        {"COLDSTREAM_KAFKA__URL": f"u:{secret}@h:1"},
    ]
    for environment in wrong:
        with pytest.raises(SettingsError) as caught:
            load_settings(environment=environment)
        said = str(caught.value) + repr(caught.value.__cause__)
        assert not any(form in said for form in (secret, quote(secret, safe=""), repr(secret)[1:-1])), said


# Kubernetes -----------------------------------------------------------------------------------------------------


def service(name: str, port: int = 8900) -> dict[str, str]:
    """What kubelet puts into every container of a namespace that has this Service."""
    at, address = f"{name}_PORT_{port}_TCP", f"tcp://10.96.0.7:{port}"
    return {
        f"{name}_SERVICE_HOST": "10.96.0.7",
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP": str(port),
        f"{name}_PORT": address,
        at: address,
        f"{at}_PROTO": "tcp",
        f"{at}_PORT": str(port),
        f"{at}_ADDR": "10.96.0.7",
    }


@pytest.mark.parametrize(
    "name",
    ["COLDSTREAM", "COLDSTREAM_MONITOR", "COLDSTREAM_KAFKA", "COLDSTREAM_REDIS", "COLDSTREAM__X", "COLDSTREAM_LEARNER"],
)
def test_variables_of_a_kubernetes_service_are_passed_over(name: str) -> None:
    assert load_settings(environment=service(name)) == load_settings(environment={})
    also = {**service(name), "COLDSTREAM_LEARNER__SEED": "12"}
    assert load_settings(environment=also).learner.seed == 12


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("COLDSTREAM_LEARNER_MICRO_BATCH", "COLDSTREAM_LEARNER__MICRO_BATCH"),
        ("COLDSTREAM_KAFKA_PASSWORD", "COLDSTREAM_KAFKA__PASSWORD"),
        ("COLDSTREAM_KAFKA_PASSWRD", "COLDSTREAM_KAFKA__PASSWORD"),
        ("COLDSTREAM_MONITOR_PORT", "COLDSTREAM_MONITOR__PORT"),
        ("COLDSTREAM_learner_seed", "COLDSTREAM_LEARNER__SEED"),
        ("COLDSTREAM_REDIS_URL", "COLDSTREAM_REDIS__URL"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_named_with_the_right_one(name: str, right: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: .*{right} is one") as caught:
        load_settings(environment={name: "9321"})
    assert "9321" not in str(caught.value)


def test_a_refused_variable_is_named() -> None:
    for name, text in (("COLDSTREAM_MONITOR__PORT", "tcp://10.96.0.7:8900"), ("COLDSTREAM_LERNER__SEED", "1")):
        with pytest.raises(SettingsError, match=name):
            load_settings(environment={name: text})


# Numbers and names ----------------------------------------------------------------------------------------------


def _numbers(kind: inspect.Type) -> list[inspect.Type]:
    """Every number in a type, whatever it lies in."""
    if isinstance(kind, inspect.Metadata):
        return _numbers(kind.type)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return [kind]
    inner = (
        [field.type for field in kind.fields]
        if isinstance(kind, inspect.StructType)
        else [getattr(kind, "item_type", None), *getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    )
    return [number for each in inner if each is not None for number in _numbers(each)]


def test_every_number_of_the_settings_is_bounded_both_ways() -> None:
    found = _numbers(inspect.type_info(Settings))
    assert len(found) > 50
    for number in found:
        assert number.ge is not None or number.gt is not None, number
        assert number.le is not None or number.lt is not None, number


NUMBERS = [
    (".".join(path), text)
    for path, setting in declared(Settings).items()
    if isinstance(setting.type, inspect.IntType | inspect.FloatType)
    for text in ("inf", "-inf", "nan", "1e21", "-1e21", "9" * 400)
]


@pytest.mark.parametrize(("name", "text"), NUMBERS)
def test_a_number_without_sense_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"setting {name}.*: Expected"):
        load_settings(environment={}, overrides=[f"{name}={text}"])


@pytest.mark.parametrize("topic", [".", "..", "", "a b", "a\n", "a/b", "x" * 250, "\u00e9"])
@pytest.mark.parametrize("name", ["impressions", "feedback", "dead_letter", "weights"])
def test_a_topic_that_kafka_would_refuse_is_refused(name: str, topic: str) -> None:
    with pytest.raises(SettingsError, match=rf"kafka\.{name}"):
        load_settings(environment={}, given={f"kafka.{name}": topic})


def test_names_with_control_characters_are_refused() -> None:
    for name in ("kafka.group", "redis.prefix", "redis.ca_file", "kafka.ca_file", "monitor.host"):
        for text in ("a\x00b", "a\n", "\x1b[0m"):
            with pytest.raises(SettingsError, match=name):
                load_settings(environment={}, given={name: text})
    for overrides in (['actions.names=["a\\u0007"]'], ['actions.names=[""]'], ['tasks=[{name="", positive=["like"]}]']):
        with pytest.raises(SettingsError, match=r"actions|tasks"):
            load_settings(environment={}, overrides=overrides)


def test_the_four_topics_differ() -> None:
    names = ("impressions", "feedback", "dead_letter", "weights")
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            with pytest.raises(SettingsError, match=rf"kafka\.{one} 'x'.*must differ|must differ.*kafka\.{one} 'x'"):
                load_settings(environment={}, overrides=[f"kafka.{one}=x", f"kafka.{other}=x"])


# Addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("h:1", "h:1"),
        ("h:1/", "h:1"),
        (" h:1 , i:2 ,", "h:1,i:2"),
        ("h", "h:9092"),
        ("[::1]:9093", "[::1]:9093"),
        ("[::1]", "[::1]:9092"),
        ("broker_1.svc.:9092", "broker_1.svc.:9092"),
    ],
)
def test_addresses_of_kafka_are_taken_as_people_write_them(given: str, taken: str) -> None:
    assert load_settings(environment={}, given={"kafka.url": given}).kafka.url == taken


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (",", "no broker"),
        ("kafka://h:1", "without kafka://"),
        ("h:1,PLAINTEXT://i:2", "without PLAINTEXT://"),
        ("SASL_SSL://h:1", "kafka.security=SASL_SSL if that is meant"),
        ("http://h:1", "without http://"),
        ("h:0", "from 1 to 65535"),
        ("h:65536", "from 1 to 65535"),
        ("h:port", "from 1 to 65535"),
        ("h:", "from 1 to 65535"),
        ("::1:9092", r"\[ADDRESS\]:PORT"),
        ("[::1:9092", r"\[ADDRESS\]:PORT"),
        ("h:1 i:2", "commas"),
        ("h i:2", "no host's name"),
        (":9092", "no host's name"),
        ("h/x:1", "no host's name"),
        ("u:s3cret@h:1", "kafka.username and kafka.password"),
    ],
)
def test_addresses_of_kafka_that_cannot_be_used_are_refused(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"kafka\.url.*{said}") as caught:
        load_settings(environment={}, given={"kafka.url": given})
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://h:1/0", "redis://u:p%2Fw@h:1/0", "rediss://h?username=u&password=s3cret", "redis://[::1]:1",
        "unix:///run/redis.sock", "unix:///run/redis.sock?db=2", "redis://h?db=3", "rediss://h?ssl_cert_reqs=none",
    ],
)  # fmt: skip
def test_addresses_of_redis_that_can_be_used(url: str) -> None:
    assert load_settings(environment={}, given={"redis.url": url}).redis.url == url
    redis.Redis.from_url(url).close()  # redis-py takes it, too


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("h:6379", "expected redis://"),
        ("http://x", "expected redis://"),
        ("REDIS://h", "expected redis://"),
        ("redis+tls://h", "write rediss://"),
        ("redis+sentinel://h/mymaster", "Sentinel"),
        ("unix://", "socket file"),
        ("redis://", "no host"),
        ("redis://h:0", "1 to 65535"),
        ("redis://h:65536", "1 to 65535"),
        ("redis://h/prod", "a number"),
        ("redis://h?db=prod", "a number"),
        ("redis://h ", "a space"),
        ("redis://:s3cret/w@h:1/0", "%2F"),
        ("redis://:s3cret#w@h:1/0", "%23"),
        ("redis://:s3cret?w@h:1/0", "%3F"),
        ("redis://:12/s3cret@h:1/0", "%2F"),
        ("redis://:s3cret[w@h:1/0", "percent-encode"),
        ("redis://h?decode_responses=True", "decode_responses"),
        ("redis://h?encoding=latin-1", "encoding"),
        ("redis://h?socket_timeout=0.001", "redis.timeout_s"),
        ("redis://h?max_connections=1", "max_connections"),
        ("redis://h?protocol=3", "protocol"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://h?ssl_cert_reqs=maybe", "none, optional or required"),
    ],
)
def test_addresses_of_redis_that_cannot_be_used_are_refused(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"redis\.url.*{re.escape(said)}") as caught:
        load_settings(environment={}, given={"redis.url": url})
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
