"""`coldstream bench serve`: how soon the scorer answers, in process and over HTTP, while a learner publishes beside it.

Load over HTTP is made by clients that are not ours: hey at a given rate, wrk as fast as answers come (`apt-get install
hey wrk`). While weights are swapped every `--interval` seconds, every answer is compared, bit for bit, with what a
model made of the learner's own state says at the version that the answer names.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from beside.publishing import PER_REQUEST, items_of, requests
from support.serving import CONTEXT, ITEM, Http, asked_for, with_serving

from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from state_store.weights import WeightStore
from stream.command.doctor import versions
from stream.command.roles import Role
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.serving.versions import Versions
from stream.settings import Settings, load_settings

_CANDIDATES = (1, 100, 500)
_CHECKED = 200
_CONNECTIONS = (1, 4, 16)
_P99_MS = 25.0
_WRK = """
local bodies, n = {{}}, 0
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
local out
function init() out = io.open("{answers}", "w") end
function request() n = n % #bodies + 1; return wrk.format("POST", nil, nil, bodies[n]) end
function response(status, headers, body) if {keep} then out:write(status, " ", body, "\\n") end end
"""


class _Scored(msgspec.Struct):
    item: str
    probability: float


class _Answer(msgspec.Struct):
    version: int
    degraded: bool
    scores: list[_Scored]


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, ms."""
    return {f"p{p}_ms": round(float(np.percentile(seconds, p)) * 1000, 2) for p in (50, 99)}


def hey(url: str, body: Path, seconds: int, rate: float) -> dict[str, Any]:
    """Times at a rate."""
    workers = 4
    called = ["hey", "-z", f"{seconds}s", "-c", str(workers), "-q", str(rate / workers), "-m", "POST", "-o", "csv"]
    said = subprocess.run([*called, "-D", str(body), url], capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(said.splitlines()))
    failed = sum(row["status-code"] != "200" for row in rows)
    return {**quantiles([float(row["response-time"]) for row in rows]), "requests": len(rows), "failed": failed}


def wrk(url: str, bodies: Path, seconds: int, connections: int, answers: Path, *, keep: bool) -> dict[str, Any]:
    """Rate and times as fast as answers come; failures of any kind."""
    script = answers.with_suffix(".lua")
    script.write_text(_WRK.format(bodies=bodies, answers=answers, keep=str(keep).lower()))
    called = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    said = subprocess.run(called, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = {"rate": float(_found(r"Requests/sec:\s+([\d.]+)", said))}
    for percent in (50, 99):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
        found[f"p{percent}_ms"] = round(float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit], 2)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    failed = sum(int(n) for n in errors.groups()) if errors else 0
    return {
        **found,
        "requests": int(_found(r"(\d+) requests in", said)),
        "failed": failed + int(refused[1] if refused else 0),
    }


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


def check(answers: Path, said: Path) -> dict[str, int]:
    """Compare answers with what the version that they name says."""
    expected = dict(map(msgspec.json.decode, said.read_bytes().splitlines()))
    places = {items_of(asked)[0]: number for number, asked in enumerate(requests(_CHECKED))}
    decode, found = msgspec.json.Decoder(_Answer).decode, {"checked": 0, "mixed": 0, "degraded": 0, "cut": 0}
    seen = set()
    for line in answers.read_bytes().splitlines():
        status, _, body = line.partition(b" ")
        if status != b"200":
            continue
        try:
            answer = decode(body)
        except msgspec.DecodeError:
            # The last one, in the middle of which wrk ended.
            found["cut"] += 1
            continue
        if answer.degraded:
            found["degraded"] += 1
            continue
        found["checked"] += 1
        seen.add(answer.version)
        scores = expected[answer.version][places[answer.scores[0].item]]
        found["mixed"] += [scored.probability for scored in answer.scores] != scores
    return {**found, "versions_seen": len(seen)}


@contextmanager
def publishing(settings: Settings, folder: Path, interval_s: float) -> Iterator[None]:
    """The learner beside it, in a process of its own."""
    config = folder / "settings.json"
    config.write_bytes(msgspec.json.encode(settings))
    script = Path(__file__).parent / "beside" / "publishing.py"
    arguments = [str(config), str(folder), str(_CHECKED), str(interval_s)]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script), *arguments], env=here)
    try:
        yield
        assert process.poll() is None, "the learner ended by itself"
    finally:
        process.terminate()
        process.wait()


def over_http(settings: Settings, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is asked over HTTP."""
    report: dict[str, Any] = {"at_rate": {}, "as_fast": {}}
    with Role("serve", settings, folder):
        http = Http(serving_url(settings.serving))
        http.wait(seconds=90)
        url = f"{http.url}/v1/score"
        for n in _CANDIDATES:
            body = folder / f"{n}.json"
            body.write_bytes(msgspec.json.encode(asked_for(n)) + b"\n")
            hey(url, body, 1, options.rate)
            report["at_rate"][n] = hey(url, body, options.each, options.rate)
            print(f"{n} candidates, {options.rate:g} requests/s:", report["at_rate"][n], flush=True)
        for connections in _CONNECTIONS:
            row = wrk(url, folder / "100.json", options.each, connections, folder / "fast", keep=False)
            report["as_fast"][connections] = row
            print(f"100 candidates, {connections} connections, as fast as answers come:", row, flush=True)
        checked = folder / "checked.jsonl"
        checked.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in requests(_CHECKED)))
        before = http.post("/v1/weights", None)["swaps"]
        report["swapping"] = wrk(url, checked, options.seconds, 8, folder / "answers", keep=True)
        report["swapping"]["swaps"] = http.post("/v1/weights", None)["swaps"] - before
        print(f"{PER_REQUEST} candidates, while weights are swapped:", report["swapping"], flush=True)
    return report


def in_process(settings: Settings, seconds: float) -> dict[int, dict[str, float]]:
    """The library, on a thread that nobody else uses, state included."""
    scorer, found = Scorer(settings, connect(settings.redis)), {}
    scorer.refresh()
    for n in _CANDIDATES:
        candidates, times = [Candidate(f"i{k}", ITEM) for k in range(n)], []
        scorer.scores("u1", CONTEXT, candidates)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            scorer.scores("u1", CONTEXT, candidates)
            times.append(time.perf_counter() - began)
        found[n] = quantiles(times)
    return found


def late_ms(work: Callable[[], object], seconds: float) -> dict[str, float]:
    """By how much a loop that wants to wake each millisecond is late, while another thread does some work."""
    done, late = threading.Event(), []

    def go_on() -> None:
        while not done.is_set():
            work()

    thread = threading.Thread(target=go_on)
    thread.start()
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        time.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    done.set()
    thread.join()
    return {f"p{p}": round(float(np.percentile(late, p)) * 1000, 2) for p in (50, 99, 99.9)} | {
        "max": round(max(late) * 1000, 2)
    }


def loading(settings: Settings, seconds: float) -> dict[str, Any]:
    """The loop's lateness while whole snapshots are loaded one after the other; beside it, two controls."""
    sys.setswitchinterval(0.0005)
    versions = Versions(WeightStore(connect(settings.redis), settings.redis.prefix), settings.recipe)
    newest = versions._weights.latest()
    assert newest is not None
    versions._load(newest)

    def load() -> None:
        for turn in versions._turns:
            turn.manifest = turn.manifest if turn is versions._current else None
        versions._load(newest)

    some = bytes(1 << 20)
    return {
        "idle_ms": late_ms(lambda: time.sleep(0.01), seconds),
        # What a busy thread costs on this machine that never holds the interpreter's lock.
        "busy_ms": late_ms(lambda: sha256(some), seconds),
        "loading_ms": late_ms(load, seconds),
    }


def main(arguments: list[str]) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="coldstream bench serve", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of load while weights are swapped (default 60)")
    parser.add_argument("--each", type=int, default=10, help="seconds of each other measurement (default 10)")
    parser.add_argument("--rate", type=float, default=100, help="requests/s (default 100)")
    parser.add_argument("--interval", type=float, default=0.25, help="seconds between versions (default .25)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    missing = [tool for tool in ("hey", "wrk") if not shutil.which(tool)]
    if missing:
        sys.exit(f"bench serve: load is made by clients that are not ours: apt-get install {' '.join(missing)}")
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = {"redis.url": server.url}
        settings = with_serving(load_settings(environment={}, overrides=["redis.prefix=bench"], given=given))
        with publishing(settings, folder, options.interval):
            report = over_http(settings, folder, options)
            report["in_process"] = in_process(settings, options.each / 3)
        report["swapping"] |= check(folder / "answers", folder / "versions.jsonl")
        report["loop_late"] = loading(settings, options.each)
    for name in ("in_process", "swapping", "loop_late"):
        print(f"{name}:", report[name])
    quick = [row["rate"] for row in report["as_fast"].values() if row["p99_ms"] <= _P99_MS]
    at_100, swapping = report["at_rate"][100], report["swapping"]
    others = [*report["at_rate"].values(), *report["as_fast"].values()]
    report |= {
        "p50_ms_100": at_100["p50_ms"],
        "p99_ms_100": at_100["p99_ms"],
        "requests": swapping["requests"] + sum(row["requests"] for row in others),
        "failed": swapping["failed"] + sum(row["failed"] for row in others),
        "mixed": swapping["mixed"],
        "swaps": swapping["swaps"],
        "max_rate_p99_25_ms": max(quick, default=0.0),
        "versions": versions(),
    }
    if options.json:
        print(json.dumps(report))
