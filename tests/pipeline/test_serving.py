"""`coldstream up` as README has it: its curl lines work as printed, and what was served comes back as impressions."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import redis

from state_store.embedded.child import free_port
from state_store.keys import Keys
from stream.partitioning import partition_of

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text()
_PORT = "8901"


def printed(language: str, with_word: str) -> str:
    """README's only block of a language with a word in it."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    [found] = [textwrap.dedent(code) for _, code in blocks if with_word in code]
    return found


def test_readmes_curl_lines_work_as_printed_and_what_was_shown_is_counted(tmp_path: Path) -> None:
    port = str(free_port())
    config = tmp_path / "shop.toml"
    # On servers that come with it, not on those that README's reader has; and windows that a test can wait for.
    config.write_text(re.sub(r"(?m)^url = .*$", 'url = ""', printed("toml", "# shop.toml")))
    small = [
        "serving.log=true",
        # So that what one of them answered another one hears was shown.
        "serving.workers=2",
        f"serving.port={port}",
        "monitor.port=0",
        "publish.interval_s=0.5",
        "kafka.partitions=2",
    ]
    small += ["worker.idle_after_ms=500"]
    sets = [argument for setting in small for argument in ("--set", setting)]
    command = [sys.executable, "-m", "stream.command.cli", "up", "--config", str(config), "--run", str(tmp_path / "up")]
    environment = {**os.environ, "COLUMNS": "200"}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        [*command, *sets], stderr=subprocess.PIPE, stdout=quiet, text=True, cwd=tmp_path, env=environment
    )
    try:
        assert process.stderr is not None
        words = process.stderr.readline().split()
        said = process.stderr.readline()
        assert f"serving http://127.0.0.1:{port}/" in said
        url = words[words.index("redis") + 1]
        lines = [line.replace(_PORT, port) for line in printed("sh", f":{_PORT}/v1/score").splitlines()]
        assert len(lines) >= 5
        [ready] = [line for line in lines if "/readyz" in line]
        deadline = time.monotonic() + 120
        while json.loads(curl(ready) or '{"error": "nothing"}').get("ready") is not True:
            assert time.monotonic() < deadline, (tmp_path / "up" / "serve.log").read_text()
            time.sleep(0.2)
        answers = [json.loads(curl(line)) for line in lines]
        assert [answer.get("error") for answer in answers] == [None] * len(lines)
        scored, ranked, explained, weights, _ = answers
        assert [s["item"] for s in scored["scores"]] == ["i3", "i4"]
        assert len(ranked["scores"]) == 2
        assert explained["parts"]
        assert weights["version"] >= 1
        [rank] = [line for line in lines if "/v1/rank" in line]
        ranked = json.loads(curl(rank.replace('"n": 2', '"n": 2, "shown": true')))
        with redis.Redis.from_url(url) as client:
            key = Keys("cs").user(partition_of("u7", 2), "u7")
            while int(client.hget(key, "impressions") or 0) < 2:
                assert time.monotonic() < deadline, "both were shown, and are counted once"
                time.sleep(0.1)
            again = curl(lines[0].replace("/v1/score", "/v1/shown").split(" -d ")[0] + " -d '" + json.dumps(
                {"imp_ids": [ranked["scores"][0]["imp_id"], "other-0"]}) + "'")  # fmt: skip
            assert json.loads(again) == {"written": 1, "unknown": ["other-0"]}
            counts = json.loads(curl(lines[2]))["user"]["counts"]
            assert counts["impressions"] == 2
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
    assert process.returncode == 0


def curl(line: str) -> str:
    """What a command line prints; nothing if nobody answers."""
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20, check=False).stdout
