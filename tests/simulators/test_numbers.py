"""Numbers without sense: refused by name wherever one is taken, before anything is begun."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from msgspec import inspect
from typer.exceptions import TyperException

from simulators.faults import FaultSettings
from simulators.logs.errors import MappingError
from simulators.logs.mapping import Mapping, load_mapping, shipped
from simulators.pace import PaceSettings
from simulators.replay import ReplaySettings
from state_store.errors import OperatorError
from stream.command.cli import build

SENSELESS = ("inf", "-inf", "nan", "1e21", "-1e21", "-1", "9" * 30, "9" * 5000)
AS_TEXT = ("--events", "--from", "--to", "--drift")
"""Options whose numbers have forms of their own."""


def _options(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every option of every command that takes a number."""
    for name, each in getattr(command, "commands", {}).items():
        yield from _options(each, (*words, name))
    for option in command.params:
        if option.opts[0] in AS_TEXT or option.type_descriptor.annotation in (int, float):
            yield words, option.opts[0]


OPTIONS = list(_options(typer.main.get_command(build())))


def test_the_options_are_found() -> None:
    assert {option for _, option in OPTIONS} >= {
        "--events", "--seed", "--kills", "--workers", "--rate", "--speed", "--loop", "--gap", "--rows", "--in-flight",
        "--from", "--to", "--drift", "--jitter", "--skew", "--late", "--delay-median", "--burst-length",
    }  # fmt: skip


@pytest.mark.parametrize(("words", "option"), OPTIONS)
@pytest.mark.parametrize("text", SENSELESS)
def test_an_option_refuses_a_number_without_sense(
    words: tuple[str, ...], option: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = {
        ("replay",): ["--kafka", "127.0.0.1:1"],
        ("abtest",): ["--aa"],
        ("world", "fit"): ["synthetic"],
        ("logs", "check"): ["ml-1m"],
        ("fusion",): ["runs/x"],
        ("export",): ["--out", "x"],
    }.get(words, [])
    command = typer.main.get_command(build())
    log = ["--log", "synthetic"] if _takes(command, words, "--log") else []
    # What is no option is told from one by the dashes before it.
    number = [f"{option}={text}"] if option.startswith("-") else ["--", text]
    with pytest.raises((OperatorError, TyperException)) as caught:
        command.main([*words, *more, *log, *number], standalone_mode=False)
    # An error of the command line itself has its option beside it.
    named = f"{caught.value} {getattr(getattr(caught.value, 'param', None), 'opts', '')}"
    assert option in named
    assert list(tmp_path.iterdir()) == []


def _takes(command: Any, words: tuple[str, ...], option: str) -> bool:
    for word in words:
        command = command.commands[word]
    return any(option in each.opts for each in command.params)


@pytest.mark.parametrize("kind", [ReplaySettings, PaceSettings, FaultSettings, Mapping])
def test_every_number_has_bounds(kind: type[msgspec.Struct]) -> None:
    numbers = list(_numbers(inspect.type_info(kind)))
    assert len(numbers) > 2
    for number in numbers:
        assert number.ge is not None or number.gt is not None
        assert number.le is not None or number.lt is not None


def _numbers(kind: inspect.Type) -> Iterator[inspect.IntType | inspect.FloatType]:
    if isinstance(kind, inspect.Metadata):
        yield from _numbers(kind.type)
    elif isinstance(kind, inspect.IntType | inspect.FloatType):
        yield kind
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from _numbers(field.type)
    else:
        for each in (getattr(kind, "item_type", None), *getattr(kind, "types", ())):
            if each is not None:
                yield from _numbers(each)


@pytest.mark.parametrize("text", ["inf", "nan", "-1.0", "1e21"])
@pytest.mark.parametrize("entry", ["median_s", "sigma"])
def test_a_mapping_refuses_a_delay_without_sense(entry: str, text: str, tmp_path: Path) -> None:
    given = shipped()["ml-1m"].read_text(encoding="utf-8")
    delay = {"median_s": "20", "sigma": "1.5", entry: text}
    lines = [
        f"delay = {{ median_s = {delay['median_s']}, sigma = {delay['sigma']} }}" if line.startswith("delay") else line
        for line in given.splitlines()
    ]
    assert tomllib.loads("\n".join(lines)) != tomllib.loads(given)
    file = tmp_path / "m.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(MappingError, match=rf"feedback.*{entry}"):
        load_mapping(file)
