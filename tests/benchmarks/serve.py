"""`coldstream bench serve`: how soon the scorer answers, in process and over HTTP, while a learner publishes beside it.

Load over HTTP is made by clients that are not ours: hey at a given rate and at rising ones, wrk as fast as answers come
(`apt-get install hey wrk`). While weights are swapped every `--interval` seconds, every answer is compared, bit for
bit, with what a model made of the learner's own state says at the version that the answer names.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from beside.load import hey, memory, quantiles, rising, wrk
from beside.publishing import PER_REQUEST, items_of, requests
from support.serving import AS_DECLARED, CONTEXT, ITEM, Http, asked_for, with_serving

from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from state_store.weights import WeightStore
from stream.command.doctor import versions
from stream.command.roles import Role
from stream.serving.address import serving_url
from stream.serving.scorer import Candidate, Scorer
from stream.serving.turns.local import Told
from stream.serving.versions import Versions
from stream.settings import Settings, load_settings

_CANDIDATES = (1, 100, 500)
_CHECKED = 200
_CONNECTIONS = (1, 4, 16)
_P99_MS = 25.0


class _Scored(msgspec.Struct):
    item: str
    probability: float


class _Answer(msgspec.Struct):
    version: int
    degraded: bool
    scores: list[_Scored]


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
    with Role("serve", settings, folder) as role:
        http = Http(serving_url(settings.serving))
        http.wait(seconds=90)
        url = f"{http.url}/v1/score"
        for n in _CANDIDATES:
            body = folder / f"{n}.json"
            body.write_bytes(msgspec.json.encode(asked_for(n)) + b"\n")
            hey(url, body, 1, options.rate)
            report["at_rate"][n] = hey(url, body, options.each, options.rate)
            print(f"{n} candidates, {options.rate:g} requests/s:", report["at_rate"][n], flush=True)
        report["rising"] = rising(url, folder / "100.json", max(2, options.each // 2), _P99_MS)
        for connections in _CONNECTIONS:
            row = wrk(url, folder / "100.json", options.each, connections, folder / "fast", keep=False)
            report["as_fast"][connections] = row
            print(f"100 candidates, {connections} connections, as fast as answers come:", row, flush=True)
        report["swapping"] = while_swapped(http, folder, options.seconds)
        report["memory_mib"] = memory(role.pid)
    return report


def while_swapped(http: Http, folder: Path, seconds: int) -> dict[str, Any]:
    """Requests whose answers are compared, while weights are swapped."""
    checked = folder / "checked.jsonl"
    checked.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in requests(_CHECKED)))
    before = http.post("/v1/weights", None)["swaps"]
    found = wrk(f"{http.url}/v1/score", checked, seconds, 8, folder / "answers", keep=True)
    found["swaps"] = http.post("/v1/weights", None)["swaps"] - before
    print(f"{PER_REQUEST} candidates, while weights are swapped:", found, flush=True)
    return found


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
        versions._turns.other.tell(Told())
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
    parser.add_argument("--workers", type=int, default=1, help="processes that answer (default 1)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    missing = [tool for tool in ("hey", "wrk") if not shutil.which(tool)]
    if missing:
        sys.exit(f"bench serve: load is made by clients that are not ours: apt-get install {' '.join(missing)}")
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        given = {"redis.url": server.url}
        settings = load_settings(environment={}, overrides=["redis.prefix=bench"], given=given)
        settings = with_serving(settings, workers=options.workers, **AS_DECLARED)
        with publishing(settings, folder, options.interval):
            report = over_http(settings, folder, options)
            report["in_process"] = in_process(settings, options.each / 3)
        report["swapping"] |= check(folder / "answers", folder / "versions.jsonl")
        report["loop_late"] = loading(settings, options.each)
    for name in ("memory_mib", "in_process", "swapping", "loop_late"):
        print(f"{name}:", report[name])
    at_100, swapping = report["at_rate"][100], report["swapping"]
    others = [*report["at_rate"].values(), *report["as_fast"].values(), *report["rising"]["tried"]]
    report |= {
        "p50_ms_100": at_100["p50_ms"],
        "p99_ms_100": at_100["p99_ms"],
        "requests": swapping["requests"] + sum(row["requests"] for row in others),
        "failed": swapping["failed"] + sum(row["failed"] for row in others),
        "mixed": swapping["mixed"],
        "swaps": swapping["swaps"],
        "max_rate_p99_25_ms": report["rising"]["rate"],
        "workers": options.workers,
        "versions": versions(),
    }
    if options.json:
        print(json.dumps(report))
