"""Benchmarks and consumers in processes of their own, and another checkout's beside ours."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from state_store.errors import OperatorError
from stream.command.roles import Role

ROOT = Path(__file__).resolve().parents[3]
_LEAST_S = 300.0
_SLOWEST_EVENTS_PER_S = 200.0
_TAIL_LINES = 12
_POLL_S = 0.02
_TIMEOUT_S = 900.0


class ControlError(OperatorError):
    """Another checkout's benchmark cannot be run, or gave no figures."""


def consume(kind: str, broker: str, topics: Sequence[str], num_events: int) -> dict[str, float]:
    """One consumer process reads topics to their end.

    Args:
        kind: `plain` or `coalesced`, as of `consumers.py`.
        broker: HOST:PORT.
        topics: whole.
        num_events: that they have together.

    Returns:
        `events_per_s`, and `cpu_us_per_event`.
    """
    script = Path(__file__).with_name("consumers.py")
    done = subprocess.run(
        [sys.executable, str(script), kind, broker, ",".join(topics), str(num_events)],
        capture_output=True,
        encoding="utf-8",
        timeout=_LEAST_S + num_events / _SLOWEST_EVENTS_PER_S,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def time_until(count: Callable[[], int], target: int, roles: Sequence[Role]) -> float:
    """Seconds from the first to the last of `target` units; start-up is not measured."""
    began, first, deadline = 0.0, 0, time.monotonic() + _TIMEOUT_S
    while True:
        done = count()
        now = time.monotonic()
        if done and not began:
            began, first = now, done
        if done >= target:
            # Scaled up by what was done before the clock started.
            return (now - began) * target / max(1, target - first)
        for role in roles:
            role.check()
        if now > deadline:
            raise TimeoutError(f"{done} of {target} after {_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)


def run_benchmark(checkout: Path, name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a checkout's own benchmark on its own code; returns what it prints with `--json`.

    Args:
        checkout: its folder.
        name: of the benchmark.
        arguments: of it, without `--json`.

    Raises:
        ControlError: it is not there, it failed, or printed no figures.
    """
    checkout = checkout.resolve()
    script = checkout / "tests" / "benchmarks" / f"{name}.py"
    if not script.is_file():
        raise ControlError(f"--control {checkout}: {script} is not there; give the root of a checkout that has it")
    # The roles are started as modules, for which the current folder goes before every other.
    done = subprocess.run(
        [sys.executable, str(script), *arguments, "--json"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    printed = done.stdout.strip().splitlines()
    if done.returncode or not printed:
        tail = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:])
        raise ControlError(f"{script} ended with status {done.returncode}; its last words:\n{tail}")
    found: dict[str, Any] = json.loads(printed[-1])
    return found


def ratios(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """A figure of ours over theirs, pair by pair: median and range.

    >>> ratios([{"x": 4.0}, {"x": 6.0}], [{"x": 2.0}, {"x": 2.0}], "x")
    {'median': 2.5, 'least': 2.0, 'greatest': 3.0}
    """
    found = [our[name] / their[name] for our, their in zip(ours, theirs, strict=True)]
    return {
        "median": round(statistics.median(found), 3),
        "least": round(min(found), 3),
        "greatest": round(max(found), 3),
    }
