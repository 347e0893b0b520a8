"""Whatever ends a command from outside, or stands in its way, leaves one line at most."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream.command.cli import _is_interrupted

COLDSTREAM = [sys.executable, "-m", "stream.command.cli"]


def start(*arguments: str, cwd: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COLDSTREAM, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        start_new_session=True, **options,
    )  # fmt: skip


def interrupted_after(seconds: float, *arguments: str, cwd: Path) -> tuple[int, str]:
    process = start(*arguments, cwd=cwd)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    said = "".join(process.communicate(timeout=60))
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("doctor",), ("backtest", "--log", "synthetic", "--events", "30000"), ("learner", "--redis", "redis://127.0.0.1:1")],
    ids=" ".join,
)  # fmt: skip
def test_ctrl_c_at_any_moment_says_nothing_and_ends_with_130(arguments: tuple[str, ...], tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(2):
        # From the first import of ours on; before, it is Python's own start.
        status, said = interrupted_after(rng.uniform(0.15, 2.5), *arguments, cwd=tmp_path)
        assert "Traceback" not in said, said
        assert "Exception ignored" not in said, said
        # 0, 1, or by the signal: it had ended by itself, and was in Python's own end.
        assert status in (130, 0, 1, -signal.SIGINT), said
        if status == 130:
            assert len([line for line in said.splitlines() if "coldstream:" in line or "rror" in line]) <= 1, said


SWALLOWED = """
import os, signal, sys, time
from stream.command import cli

class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.{asked})
        time.sleep(1)

def run():
    signal.signal(signal.SIGTERM, cli._end)
    held = Held()
    del held
    print("goes on", flush=True)
    time.sleep(60)
    print("never asked again")

cli._run = run
cli.main()
"""


@pytest.mark.parametrize(("asked", "status"), [("SIGINT", 130), ("SIGTERM", 128 + signal.SIGTERM)])
def test_who_is_asked_to_end_in_a_destructor_ends_all_the_same(asked: str, status: int) -> None:
    """Python ignores what is raised there, and a compiler's objects have many of them."""
    ended = subprocess.run(
        [sys.executable, "-c", SWALLOWED.format(asked=asked)],
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "goes on\n", "")


@pytest.mark.parametrize("arguments", [("settings",), ("--help",), ("logs", "show", "ml-1m"), ("logs", "list")])
def test_a_reader_that_is_gone_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    process = start(*arguments, cwd=tmp_path)
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018
    process.stdout.close()
    said = process.stderr.read()
    process.wait(30)
    assert said == ""


@pytest.mark.parametrize("command", [("up",), ("learner", "--redis", "redis://127.0.0.1:1")])
@pytest.mark.parametrize("what", ["a file", "in a file", "read-only"])
def test_a_run_folder_that_cannot_be_written_to_is_named(command: tuple[str, ...], what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    # Nobody can write there, not even root.
    folder = {"a file": tmp_path / "file", "in a file": tmp_path / "file" / "run", "read-only": Path("/proc/run")}[what]
    process = start(*command, "--run", str(folder), cwd=tmp_path)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in said.splitlines() if line.startswith("coldstream: ")]
    assert len(lines) == 1, said
    assert f"--run {folder}: cannot be written to" in lines[0]
    assert "Traceback" not in out + said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backtest", "--log", "synthetic", "--events", "100"], "runs"),
        (["demo", "--log", "synthetic", "--events", "100"], "runs"),
        (["settings", "--config", "."], "--config ."),
        (["logs", "new", "."], "."),
        (["logs", "new", "nowhere.csv"], "nowhere.csv"),
        (["logs", "new", "data.csv", "-o", "runs/x"], "runs/x"),
        (["report", "runs"], "runs"),
        (["backtest", "--log", "synthetic", "--events", "100", "--name", "x" * 300], "x" * 300),
    ],
)
def test_a_path_that_will_not_do_is_named(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    (tmp_path / "data.csv").write_text("user,item,time,click\n1,2,978300760,1\n2,2,978300761,0\n", encoding="utf-8")
    process = start(*arguments, cwd=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors, errors
    assert said in next(line for line in errors.splitlines() if line.startswith("coldstream: ")), errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_a_locale_that_is_not_utf8_is_no_hindrance(locale: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[actions]\nnames = ["be\u011fen\U0001f511"]\n', encoding="utf-8")
    environment = {**os.environ, **locale}
    for arguments in (
        ["settings", "--config", "s.toml"],
        ["demo", "--help"],
        ["doctor"],
        ["logs", "list"],
        ["backtest", "--log", "synthetic", "--events", "2000", "--name", "loc"],
        ["report", "runs/loc"],
    ):
        process = start(*arguments, cwd=tmp_path, env=environment)
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "Traceback" not in out + said
        if arguments[0] == "settings":
            assert json.loads(out)["actions"]["names"] == ["be\u011fen\U0001f511"]


def test_an_error_whose_contexts_lead_back_to_itself_ends_all_the_same() -> None:
    """As one does that a service raises again in several tasks; the process would look for its cause for ever."""
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__ = second, first
    assert not _is_interrupted(first)
    second.__cause__ = KeyboardInterrupt()
    assert _is_interrupted(first)
