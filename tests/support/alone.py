"""Checks that need a process of their own: in this one other tests have had everything compiled."""

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def check_alone(module: str, call: str) -> None:
    """Call a function of a test's module in a new process, and fail as it does."""
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import check; {call}"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
