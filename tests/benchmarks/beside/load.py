"""Load on a scorer over HTTP, made by clients that are not ours, and what its processes hold meanwhile."""

import csv
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_PER_CLIENT = 25.0
"""Requests/s of one client: it has 40 ms for an answer before the next one is due."""
_WRK = """
local bodies, n = {{}}, 0
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
local out
function init() out = io.open("{answers}", "w") end
function request() n = n % #bodies + 1; return wrk.format("POST", nil, nil, bodies[n]) end
function response(status, headers, body) if {keep} then out:write(status, " ", body, "\\n") end end
"""


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, ms."""
    return {f"p{p}_ms": round(float(np.percentile(seconds, p)) * 1000, 2) for p in (50, 99)}


def hey(url: str, body: Path, seconds: int, rate: float) -> dict[str, Any]:
    """Times at a rate, evenly spread.

    Each client has one connection and begins a moment after the one before: those of one client of several connections
    send all at once, and then measure how long they wait for each other.
    """
    count = max(1, round(rate / _PER_CLIENT))
    called = ["hey", "-z", f"{seconds}s", "-c", "1", "-q", str(rate / count), "-m", "POST", "-o", "csv"]
    clients, begin = [], time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, begin + n / rate - time.monotonic()))
        clients.append(subprocess.Popen([*called, "-D", str(body), url], stdout=subprocess.PIPE, text=True))
    rows = [row for client in clients for row in csv.DictReader(client.communicate()[0].splitlines())]
    failed = sum(row["status-code"] != "200" for row in rows)
    times = [float(row["response-time"]) for row in rows]
    return {**quantiles(times), "rate": round(len(rows) / seconds, 1), "requests": len(rows), "failed": failed}


def rising(url: str, body: Path, seconds: int, p99_ms: float) -> dict[str, Any]:
    """The highest rate at which 99 of 100 answers come within a time; half as much again each time."""
    rate, best, tried = 100.0, 0.0, []
    while True:
        row = hey(url, body, seconds, rate)
        tried.append(row)
        print("rising:", row, flush=True)
        # What clients cannot ask for is not answered either.
        if row["p99_ms"] > p99_ms or row["failed"] or row["rate"] < 0.95 * rate:
            return {"rate": best, "tried": tried}
        rate, best = rate * 1.5, row["rate"]


def memory(pid: int) -> list[dict[str, float]]:
    """MiB of a role's processes: of its own, and what it shares, divided by those that share it."""
    found = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children()):
        used = process.memory_full_info()
        found.append({"own": round(used.uss / 2**20, 1), "with_share": round(used.pss / 2**20, 1)})
    return found


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
