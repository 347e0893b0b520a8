"""Groups of options that several commands share.

A group is a frozen dataclass whose fields are options. A command that takes one as a parameter, under `@grouped`, has
all of them: what `--log` means, or which faults there are, is said once.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console

from state_store.errors import OperatorError

if TYPE_CHECKING:
    from simulators.logs.log import Log
    from simulators.replay import ReplaySettings

T = TypeVar("T")
DEFAULT_LOG = "ml-1m"
_NUM_SYNTHETIC = 200_000
_FAULTS = "Faults"
_MAX_EVENTS = 1_000_000_000_000
_OPTION_OF = {
    "events_per_s": "rate",
    "rounds": "loop",
    "burst_s": "burst-length",
    "num_rows": "events",
    "drift_at": "drift",
    "drift_share": "drift",
}
"""Settings of a replay whose option has another name."""

Events = Annotated[str, typer.Option("--events", help="Rows of the log to replay, oldest first, or 'all'.")]
RunName = Annotated[str, typer.Option("--name", help="Name of the run: results go to runs/<name>.")]


class UsageError(OperatorError):
    """An argument is not what it should be."""


class Parser(argparse.ArgumentParser):
    """For a command that reads its own arguments: says in one sentence what is wrong, as every command does."""

    def error(self, message: str) -> NoReturn:
        """Say it.

        Raises:
            UsageError: always.
        """
        name = self.prog.removeprefix("coldstream ")
        raise UsageError(f"{name}: {message}; `{self.prog} --help` shows what there is")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are groups of options are replaced by those options.

    >>> @dataclass(frozen=True)
    ... class Size:
    ...     width: int = 2
    ...     height: int = 3
    >>> @grouped
    ... def area(size: Size, unit: str = "m") -> None:
    ...     print(size.width * size.height, unit)
    >>> list(inspect.signature(area).parameters)
    ['unit', 'width', 'height']
    >>> area(width=5)
    15 m
    """
    plain: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
        else:
            plain.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
    for group in groups.values():
        options = inspect.signature(group, eval_str=True).parameters.values()
        plain += [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in options]

    def run(**given: Any) -> None:
        made = {
            name: group(**{f.name: given.pop(f.name) for f in fields(group) if f.name in given})
            for name, group in groups.items()
        }
        command(**given, **made)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in plain}
    run.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    return run


@dataclass(frozen=True)
class LogOptions:
    """Which log is replayed."""

    log: Annotated[str, typer.Option("--log", metavar="NAME_OR_FILE", help="Which log.")] = DEFAULT_LOG
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder with its files, where they are not found.")
    ] = None

    def open(self, seed: int, num_rows: int, console: Console) -> "Log":
        """The log; a synthetic one where none is named and the default one is out of reach.

        Args:
            seed: of a synthetic log.
            num_rows: rows that are wanted; 0: all.
            console: where it is said what is replayed.
        """
        from simulators.logs.errors import DataError
        from simulators.logs.open import open_log

        wanted = num_rows or _NUM_SYNTHETIC
        try:
            log = open_log(self.log, self.data, seed=seed, num_synthetic=wanted)
        except DataError as exc:
            if self.data is not None or self.log != DEFAULT_LOG:
                raise
            console.print(f"{exc}\nGoing on with a synthetic log.")
            return open_log("synthetic", None, seed=seed, num_synthetic=wanted)
        origin = "" if log.source == log.name else f" from {log.source}"
        console.print(f"data: {log.name}{origin}" + (f" ({log.licence})" if log.licence else ""))
        return log


@dataclass(frozen=True)
class StreamOptions:
    """How a log becomes a stream, and what goes wrong with it."""

    seed: Annotated[int, typer.Option("--seed", help="Seed of the replay and of the learner.")] = 7
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Event time of the first row: ISO 8601 (UTC), or ms.")
    ] = None
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Event time before which the rows end, likewise.")
    ] = None
    delay_median: Annotated[
        float | None, typer.Option(help="Median of drawn delays, seconds of event time; default: as the log has it.")
    ] = None
    delay_sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of the delay's logarithm; default: as the log has it.")
    ] = None
    drift: Annotated[
        str | None,
        typer.Option(metavar="AT:SHARE", help="From event number AT on, invert the labels of a share of users."),
    ] = None
    duplicates: Annotated[float, typer.Option(help="Share of events written twice.", rich_help_panel=_FAULTS)] = 0.01
    out_of_order: Annotated[
        float, typer.Option(help="Share of events written after later ones.", rich_help_panel=_FAULTS)
    ] = 0.02
    jitter: Annotated[
        float, typer.Option(help="By how much at most, seconds of event time.", rich_help_panel=_FAULTS)
    ] = 30.0
    late: Annotated[
        float, typer.Option(help="Share of events written later than is allowed.", rich_help_panel=_FAULTS)
    ] = 0.0
    lost_feedback: Annotated[
        float, typer.Option(help="Share of feedback that is never written.", rich_help_panel=_FAULTS)
    ] = 0.0
    skewed_clocks: Annotated[
        float, typer.Option(help="Share of users whose clocks are wrong.", rich_help_panel=_FAULTS)
    ] = 0.0
    skew: Annotated[float, typer.Option(help="By how much at most, seconds.", rich_help_panel=_FAULTS)] = 300.0
    malformed: Annotated[float, typer.Option(help="Share of records with damaged bytes.", rich_help_panel=_FAULTS)] = (
        0.0
    )
    bursts: Annotated[
        float,
        typer.Option(
            help="Share of time in which events are held back, then written at once.", rich_help_panel=_FAULTS
        ),
    ] = 0.0
    burst_length: Annotated[
        float, typer.Option(help="For how long each time, seconds of event time.", rich_help_panel=_FAULTS)
    ] = 60.0

    def settings(self, num_rows: int = 0, rounds: int = 1, gap_s: float = 3600.0) -> "ReplaySettings":
        """As settings of a replay.

        Args:
            num_rows: rows replayed; 0: all.
            rounds: how often; 0: until it is stopped.
            gap_s: event time between two rounds, seconds.

        Raises:
            UsageError: names the option that is out of bounds.
        """
        from simulators.replay import ReplaySettings

        drift_at, drift_share = parse_drift(self.drift)
        given = {
            "num_rows": num_rows,
            "from_ms": parse_time(self.begin, "--from"),
            "to_ms": parse_time(self.end, "--to"),
            "rounds": rounds,
            "gap_s": gap_s,
            "delay_median_s": self.delay_median,
            "delay_sigma": self.delay_sigma,
            "seed": self.seed,
            "drift_at": drift_at,
            "drift_share": drift_share,
            "faults": {
                "duplicates": self.duplicates,
                "out_of_order": self.out_of_order,
                "jitter_s": self.jitter,
                "late": self.late,
                "lost_feedback": self.lost_feedback,
                "skewed_clocks": self.skewed_clocks,
                "skew_s": self.skew,
                "malformed": self.malformed,
                "bursts": self.bursts,
                "burst_s": self.burst_length,
            },
        }
        return checked(given, ReplaySettings)

    def defaults(self, log: "Log") -> Mapping[str, Any]:
        """What a log says of the pipeline's settings; with skewed clocks, one user's word is not enough."""
        if not self.skewed_clocks:
            return log.settings
        return {**log.settings, "join": {k: v for k, v in log.settings["join"].items() if k != "time_users"}}


def checked(given: Mapping[str, Any], kind: type[T]) -> T:
    """Settings from options.

    Raises:
        UsageError: one is out of bounds.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$.")
        names = where.rstrip("`").split(".")
        value: Any = given
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        option = _OPTION_OF.get(names[-1]) or names[-1].removesuffix("_ms").removesuffix("_s").replace("_", "-")
        raise UsageError(f"--{option} {value}: {problem}" if where else str(exc)) from exc


def parse_events(events: str) -> int:
    """A number of rows; 0 for all.

    >>> parse_events("200_000"), parse_events("all")
    (200000, 0)
    """
    if events == "all":
        return 0
    try:
        number = int(events.replace("_", ""))
    except ValueError:
        number = 0
    if not 1 <= number <= _MAX_EVENTS:
        raise UsageError(f"--events {events!r:.80}: expected a number from 1 to {_MAX_EVENTS:,}, or 'all'")
    return number


def parse_time(text: str | None, option: str) -> int | None:
    """Event time in ms; a time without a zone is UTC.

    >>> parse_time("2000-04-25T23:05:32", "--from"), parse_time("956703932000", "--from")
    (956703932000, 956703932000)
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 8 < len(text) <= 16:
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text!r:.80}: expected ISO 8601, as in 2000-04-25T23:05, or milliseconds") from exc
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def parse_drift(text: str | None) -> tuple[int, float]:
    """Event and share of users; zeros for none.

    >>> parse_drift("400_000:0.3")
    (400000, 0.3)
    """
    if text is None:
        return 0, 0.0
    at, _, share = text.partition(":")
    try:
        number, part = int(at.replace("_", "")), float(share)
    except ValueError:
        number, part = 0, 0.0
    if number < 1 or not 0 < part <= 1:
        raise UsageError(
            f"--drift {text!r:.80}: expected AT:SHARE, an event number and a share above 0, as in 400000:0.3"
        )
    return number, part
