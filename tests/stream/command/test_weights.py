"""`coldstream weights` and `coldstream export`, as typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from support.serving import Trained

from stream.settings import Settings


@pytest.fixture
def trained(settings: Settings, client: redis.Redis) -> Trained:
    made = Trained(settings, client)
    made.publish(20, 1, now_ms=1_700_000_000_000)
    return made


def typed(trained: Trained, *arguments: str) -> subprocess.CompletedProcess[str]:
    redis_settings = trained.settings.redis
    where = ["--redis", redis_settings.url, "--set", f"redis.prefix={redis_settings.prefix}"]
    command = [sys.executable, "-m", "stream.command.cli", *arguments, *where]
    return subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")


def test_a_version_is_pinned_and_listed(trained: Trained) -> None:
    assert json.loads(typed(trained, "weights", "rollback", "1", "--why", "bad", "--json").stdout)["pinned"] == 1
    listed = json.loads(typed(trained, "weights", "list", "--json").stdout)
    assert (listed["in_force"], listed["pinned"], [m["version"] for m in listed["kept"]]) == (1, 1, [1])
    assert "version 1: bad (" in typed(trained, "weights", "list").stdout


def test_what_cannot_be_done_is_said_in_one_sentence(trained: Trained) -> None:
    refused = typed(trained, "weights", "pin", "7")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("coldstream: version 7 is not kept; these are: 1")


def test_a_version_is_exported(trained: Trained, tmp_path: Path) -> None:
    said = json.loads(typed(trained, "export", "--out", str(tmp_path / "out"), "--json").stdout)
    assert sorted(said) == ["model.json", "weights.safetensors"]
    model = json.loads((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert model["manifest"]["version"] == 1
    assert model["model"]["fields"][0]["name"] == "user_id"
