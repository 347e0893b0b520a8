"""Odd secrets through every command, error and log."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from state_store.embedded.child import free_port
from state_store.embedded.redis import EmbeddedRedis

COLDSTREAM = [sys.executable, "-m", "stream.command.cli"]
SECRETS = [
    "p4ss/w#rd?&@:x%2F'\"\\",
    "two\nlines-of-\u015fifre\U0001f511",
    "s3cret-w0rd",
    "per%2Fcent%zz",
    "9182736455",
    "q'u\"o\\te][",
    "gizli\u015fifre",
]
ODD = [SECRETS[0], *(pytest.param(secret, marks=pytest.mark.soak) for secret in SECRETS[1:])]
"""Every command takes its time: one secret through all of them always, the others in the soak."""
COMMANDS = (
    ["settings"],
    ["settings", "--set", "learner.micro_batch=0"],
    ["settings", "--set", "lerner.x=1"],
    ["doctor"],
    ["doctor", "--json"],
    ["topics"],
    ["topics", "--json"],
    ["worker"],
    ["learner"],
    ["monitor"],
    ["serve"],
    ["up"],
    ["report", "nowhere"],
    ["demo", "--log", "synthetic", "--events", "100"],
    ["backtest", "--log", "synthetic", "--events", "100"],
)


def forms(secret: str) -> set[str]:
    """As it may stand in a text that is printed, cut into lines or not."""
    found = {secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
    return {"".join(form.split()) for form in found}


def said_by(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [*COLDSTREAM, *arguments], cwd=folder, env={**os.environ, **environment}, capture_output=True, encoding="utf-8",
        timeout=60, check=False,
    )  # fmt: skip
    logs = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.log"))
    return done.stdout + done.stderr + logs


def check(secret: str, environment: dict[str, str], folder: Path) -> None:
    for arguments in COMMANDS:
        said = said_by(arguments, environment, folder)
        flat = "".join(said.split())
        shown = [form for form in forms(secret) if form in flat]
        assert shown == [], (arguments, said[-2000:])
        assert "Traceback" not in said, (arguments, said[-3000:])


@pytest.mark.slow
@pytest.mark.parametrize("secret", ODD)
def test_no_command_shows_a_secret_while_servers_are_away(secret: str, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    environment = {
        "COLDSTREAM_KAFKA__URL": nowhere,
        "COLDSTREAM_KAFKA__SECURITY": "SASL_PLAINTEXT",
        "COLDSTREAM_KAFKA__USERNAME": "shop",
        "COLDSTREAM_KAFKA__PASSWORD": secret,
        "COLDSTREAM_REDIS__URL": f"redis://shop:{quote(secret, safe='')}@{nowhere}/0",
        "COLDSTREAM_MONITOR__PORT": str(free_port()),
    }
    check(secret, environment, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("secret", ODD)
def test_no_command_shows_a_secret_that_redis_refuses(secret: str, embedded_broker: str, tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        with redis.Redis(port=server.port) as administrator:
            administrator.execute_command("CONFIG", "SET", "requirepass", "another-one")
        environment = {
            "COLDSTREAM_KAFKA__URL": embedded_broker,
            "COLDSTREAM_REDIS__URL": f"redis://127.0.0.1:{server.port}/0?password={quote(secret, safe='')}",
        }
        if all("!" <= c <= "~" for c in secret):
            environment["COLDSTREAM_MONITOR__TOKEN"] = secret
        check(secret, environment, tmp_path)


@pytest.mark.parametrize(
    "url", ["redis://:{}@h:1/0", "redis://h:port/0?password={}", "redis://u:{}@h:1/x", "http://u:{}@h"]
)
@pytest.mark.parametrize("secret", ODD)
def test_an_address_that_is_refused_is_shown_without_its_password(secret: str, url: str, tmp_path: Path) -> None:
    """As it is, not percent-encoded: where that makes the address unusable, it says so."""
    for arguments in (["topics", "--redis", url.format(secret), "--kafka", "h:0"], ["topics", url.format(secret)]):
        said = said_by(arguments, {}, tmp_path)
        flat = "".join(said.replace("\u2502", "").split())
        assert [form for form in forms(secret) if form in flat] == [], said
        assert "Traceback" not in said


def test_a_traceback_does_not_show_a_secret_either(tmp_path: Path) -> None:
    code = (
        "import logging\n"
        "from stream.command.output import mask_streams\n"
        "from stream.settings import load_settings\n"
        "mask_streams()\n"
        "password = load_settings().kafka.password\n"
        "logging.basicConfig()\n"
        "try:\n    raise ValueError(f'login {password}')\n"
        "except ValueError:\n    logging.exception('with %s', password)\n"
        "print(password)\n"
        "raise RuntimeError(repr({'password': password}))\n"
    )
    for secret in SECRETS:
        environment = {**os.environ, "COLDSTREAM_KAFKA__PASSWORD": secret, "PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        flat = "".join((done.stdout + done.stderr).split())
        assert "Traceback" in flat
        assert [form for form in forms(secret) if form in flat] == []
