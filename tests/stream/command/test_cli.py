"""The command line as a person meets it: one clear sentence, exit status other than 0, no traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from state_store.embedded.child import free_port
from stream.command.roles import wait_until
from stream.process.status import read_status

COLDSTREAM = [sys.executable, "-m", "stream.command.cli"]


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COLDSTREAM, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


NOWHERE = f"127.0.0.1:{free_port()}"

BAD = {
    "unknown setting": (["settings", "--set", "learner.micro_bach=1"], ["learner.micro_bach", "micro_batch"]),
    "bad value": (["settings", "--set", "learner.micro_batch=0"], ["learner.micro_batch", ">= 1", "0"]),
    "no config file": (["settings", "--config", "nowhere.toml"], ["nowhere.toml", "TOML"]),
    "no redis": (["learner", "--redis", f"redis://{NOWHERE}/0"], ["redis.url", NOWHERE, "Start Redis"]),
    "bad redis url": (["learner", "--redis", "http://x"], ["redis.url", "http://x"]),
    "learner without redis": (["learner"], ["redis.url is empty", "--redis"]),
    "worker without kafka": (["worker", "--redis", "redis://x"], ["kafka.url is empty", "coldstream up"]),
    "no kafka": (["topics", "--kafka", NOWHERE], ["kafka.url", NOWHERE, "Start Kafka"]),
    "replay to nowhere": (["replay", "--kafka", NOWHERE, "--events", "10"], ["kafka.url", NOWHERE]),
    "wrong data folder": (["demo", "--data", "/nowhere"], ["--data /nowhere", "ratings.dat"]),
    "wrong data folder, fetch": (["data", "fetch", "ml-1m", "--data", "/nowhere"], ["--data /nowhere"]),
    "unknown data set": (["data", "fetch", "netflix"], ["netflix", "ml-1m"]),
    "bad number of events": (["demo", "--events", "some"], ["--events", "some", "all"]),
    "unknown log": (["backtest", "--log", "netflix"], ["--log netflix", "ml-1m"]),
    "share over 1": (["backtest", "--log", "synthetic", "--late", "2"], ["--late 2", "<= 1"]),
    "bad time": (["backtest", "--log", "synthetic", "--from", "yesterday"], ["--from", "yesterday", "ISO 8601"]),
    "no rows in the span": (["backtest", "--log", "synthetic", "--from", "2050-01-01"], ["--from and --to", "200,000"]),
    "rate and speed": (
        ["replay", "--kafka", NOWHERE, "--log", "synthetic", "--rate", "5", "--speed", "2"],
        ["5.0 events/s", "2.0"],
    ),
    "drift too late": (
        ["backtest", "--log", "synthetic", "--events", "100", "--drift", "5000:0.5"],
        ["--drift", "event 5000"],
    ),
    "bad run name": (["demo", "--name", "../x", "--events", "10"], ["--name", "../x"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_one_sentence(name: str, tmp_path: Path) -> None:
    arguments, said = BAD[name]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    message = next(line for line in done.stderr.splitlines() if line.startswith("coldstream: "))
    assert all(part in message for part in said), message


def test_settings_shows_effective_values_with_passwords_masked() -> None:
    done = run("settings", "--redis", "redis://u:secret@db/0", COLDSTREAM_LEARNER__SEED="12")
    values = json.loads(done.stdout)
    assert values["learner"]["seed"] == 12
    assert values["redis"]["url"] == "redis://u:***@db/0"


def test_doctor_tells_what_is_there_and_what_is_not(redis_server, tmp_path: Path) -> None:
    done = run("doctor", "--redis", redis_server.url, "--kafka", NOWHERE, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout.strip().splitlines()[-1])
    found = {f["subject"]: f for f in report["findings"]}
    assert found["redis"]["ok"]
    assert not found["kafka"]["ok"]
    assert NOWHERE in found["kafka"]["detail"]


@pytest.mark.slow
def test_doctor_finds_a_topic_with_the_wrong_number_of_partitions(embedded_broker: str, redis_server) -> None:
    assert run("topics", "--kafka", embedded_broker, "--set", "kafka.impressions=narrow").returncode == 0
    arguments = ["--kafka", embedded_broker, "--set", "kafka.impressions=narrow", "--set", "kafka.partitions=8"]
    done = run("doctor", *arguments, "--redis", redis_server.url, "--json")
    found = {f["subject"]: f for f in json.loads(done.stdout.strip().splitlines()[-1])["findings"]}
    assert "kafka.partitions is 8" in found["topic narrow"]["detail"]
    refused = run("topics", *arguments)
    assert refused.returncode == 1
    assert "kafka.partitions=4" in refused.stderr


@pytest.mark.slow
def test_up_runs_every_role_until_interrupted_and_takes_live_events(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COLDSTREAM, "up", "--run", str(tmp_path / "up"), "--set", "publish.interval_s=0.5",
         "--set", "worker.idle_after_ms=1000", "--set", "join.window_ms=2000", "--set", "join.lateness_ms=500",
         "--set", f"monitor.port={free_port()}", "--set", "serving.port=0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    words = line.split()
    kafka, redis_url = words[words.index("kafka") + 1], words[words.index("redis") + 1]
    _write_live_events(kafka)
    with redis.Redis.from_url(redis_url) as client:
        status = lambda: read_status(client, "cs")  # noqa: E731
        is_learned = lambda: (found := status()) is not None and sum(found.num_by_kind[:2]) == 40 and found.version > 0  # noqa: E731
        wait_until(is_learned, "the events to be learned", progress=status)
        found = status()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert found is not None
    # Half were liked; the wall clock closed the windows of the rest, since nothing more came.
    assert found.num_by_kind[:5] == [20, 20, 0, 0, 40], "and each was predicted when it was shown"
    assert "Traceback" not in rest


def _write_live_events(kafka: str) -> None:
    from kafka import KafkaProducer

    from stream.events import Feedback, Impression, encode_event

    producer = KafkaProducer(bootstrap_servers=kafka)
    now = int(time.time() * 1000)
    for n in range(40):
        key = f"u{n % 8}"
        shown = Impression(imp_id=f"{n}", user_id=key, item_id=f"i{n % 5}", ts=now + n)
        producer.send("impressions", key=key.encode(), value=encode_event(shown))
        if n % 2:
            liked = Feedback(imp_id=f"{n}", user_id=key, item_id=f"i{n % 5}", action="like", ts=now + n + 100)
            producer.send("feedback", key=key.encode(), value=encode_event(liked))
    producer.flush()
    producer.close()
