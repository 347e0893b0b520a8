"""`coldstream abtest`: two pipelines behind one world."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from simulators.commands.options import RunName, UsageError, checked, grouped
from simulators.commands.outcome import emptied, run_folder
from stream.command.options import AsJson, usable_folder
from stream.command.output import print_json

_MOST_SEEDS = 1000
_First = Annotated[
    Path | None,
    typer.Argument(
        metavar="A.toml",
        help="Settings of the first arm. A table `arm` in it may say `frozen = true` (its scorer keeps the weights "
        "that it has when the test begins) or `noise` (that is added to its scores).",
    ),
]
_Second = Annotated[Path | None, typer.Argument(metavar="B.toml", help="Of the arm that is compared with it.")]


@dataclass(frozen=True)
class TrialOptions:
    """How two arms are compared in one world."""

    days: Annotated[int, typer.Option(help="Of the test.")] = 5
    days_before: Annotated[int, typer.Option(help="In which the first arm serves everybody.")] = 3
    candidates: Annotated[int, typer.Option(help="Drawn for each visit.")] = 100
    retrieved: Annotated[float, typer.Option(help="Share of the candidates that a two-tower model finds.")] = 0.0
    cap: Annotated[float, typer.Option(help="No figure of a user is above this quantile; 1: as it is.")] = 0.99
    learns_from: Annotated[str, typer.Option(help="Whose impressions an arm learns from: own, or all.")] = "own"
    paired: Annotated[bool, typer.Option("--paired", help="Both arms rank every visit; needs --learns-from all.")] = (
        False
    )


@dataclass(frozen=True)
class ModeOptions:
    """Where pipelines run."""

    fast: Annotated[bool, typer.Option("--fast", help="In this process, as it is without --broker and --kafka.")] = (
        False
    )
    broker: Annotated[
        str | None, typer.Option(help="Through Kafka and HTTP: embedded, or kafka (a distribution at KAFKA_HOME).")
    ] = None
    kafka: Annotated[
        str | None,
        typer.Option(help="HOST:PORT[,HOST:PORT] of your own Kafka, in its place; arms' settings say how to log in."),
    ] = None
    loose: Annotated[
        bool, typer.Option("--loose", help="Through Kafka: do not wait until what could be learned is served.")
    ] = False
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM=A,B,C", help="The test in worlds with each value of a parameter; may come again."),
    ] = None

    def check(self) -> None:
        """Whether they go together.

        Raises:
            UsageError: they do not.
        """
        if self.broker not in (None, "embedded", "kafka"):
            raise UsageError(f"--broker {self.broker!r}: expected embedded or kafka")
        if self.broker is not None and self.kafka is not None:
            raise UsageError(f"--broker {self.broker} starts one, --kafka {self.kafka} is there; leave one of them out")
        if self.kafka == "":
            raise UsageError("--kafka '': expected HOST:PORT[,HOST:PORT]")
        live = f"--broker {self.broker}" if self.kafka is None else f"--kafka {self.kafka}"
        if self.fast and self.is_live:
            raise UsageError(f"--fast is without a broker, {live} is with one; leave one of them out")
        if self.loose and not self.is_live:
            raise UsageError(
                "--loose says how long a live pipeline is waited for; give --broker embedded, --broker kafka or --kafka"
            )
        if self.vary and self.is_live:
            raise UsageError(f"--vary runs many worlds in this process; leave {live} out")

    @property
    def is_live(self) -> bool:
        """Whether arms are processes behind Kafka."""
        return self.broker is not None or self.kafka is not None


@grouped
def abtest(
    trial: TrialOptions,
    mode: ModeOptions,
    first: _First = None,
    second: _Second = None,
    aa: Annotated[bool, typer.Option("--aa", help="Compare the first arm with itself.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=_MOST_SEEDS, help="Worlds; effects are pooled over them.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=1 << 31, help="The first of the seeds.")] = 7,
    world: Annotated[Path | None, typer.Option(help="TOML file of the world; default: the shipped one.")] = None,
    power: Annotated[
        float, typer.Option(min=0, max=10, help="Say how many users a relative effect needs, as 0.01; 0: do not.")
    ] = 0.0,
    name: RunName = "abtest",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what a run of this name has done: its worlds are not run again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Split a world's users between two pipelines, and say whom that helps: new users, old ones, all."""
    mode.check()
    if mode.vary and power:
        raise UsageError(f"--power {power:g} is said of worlds of one kind; leave it or --vary out")
    names, test = _loaded(_files(first, second, aa=aa), world, asdict(trial) | {"strict": not mode.loose})
    run = _Run(test, names, range(seed, seed + seeds), power)
    worlds = _worlds(test[0], mode.vary) if mode.vary else []
    # An earlier run of this name goes only when nothing that was typed is wrong.
    folder = usable_folder(run_folder(name), "run folder") if resume else emptied(run_folder(name))
    if worlds:
        summary = _vary(run, worlds, folder)
    else:
        with _opens(mode, folder) as opens:
            summary = _run(run, folder, opens)
    if as_json:
        print_json(summary)


@contextmanager
def _opens(mode: ModeOptions, folder: Path) -> Iterator[Any]:
    """How arms are opened: in this process, or on servers that are up as long as this lasts."""
    if not mode.is_live:
        from simulators.abtest.local import in_process

        yield in_process
        return
    from simulators.abtest.live.start import live_servers
    from state_store.embedded.child import port_or_free
    from stream.monitor.access.hosts import page_url
    from stream.sections import MonitorSettings

    page = MonitorSettings(twin_share=0.0)
    page = msgspec.structs.replace(page, port=port_or_free(page.host, page.port))
    with live_servers(mode.broker or "kafka", folder, page, mode.kafka or "") as live:  # type: ignore[arg-type]
        Console(stderr=True).print(f"monitor: {page_url(page)} while this runs")
        yield live


def _files(first: Path | None, second: Path | None, *, aa: bool) -> dict[str, Path | None]:
    if not aa and second is None:
        raise UsageError("abtest: give two arms, A.toml and B.toml, or --aa to compare one with itself")
    if aa and second is not None:
        raise UsageError(f"abtest --aa compares the first arm with itself; leave {second} out")
    return {"a": first, "b": first if aa else second}


def _loaded(
    files: dict[str, Path | None], world: Path | None, given: dict[str, Any]
) -> tuple[dict[str, str], tuple[Any, Any, Any]]:
    """What each arm is called, and world, arms and settings of the test."""
    from simulators.abtest.arm import load_arm
    from simulators.abtest.run import TrialSettings
    from simulators.world.parameters import SHIPPED, load_parameters

    how = checked(given, TrialSettings)
    parameters = load_parameters(world or SHIPPED)
    arms = load_arm("a", files["a"], parameters), load_arm("b", files["b"], parameters)
    names = {arm: "the world's settings" if file is None else str(file) for arm, file in files.items()}
    return names, (parameters, arms, how)


class _Run(msgspec.Struct, frozen=True):
    """What is run."""

    test: tuple[Any, Any, Any]
    """World, arms, settings."""
    names: dict[str, str]
    seeds: range
    effect: float


def _run(run: _Run, folder: Path, opens: Any) -> dict[str, Any]:
    from simulators.abtest.reporting.kept import KeptRuns
    from simulators.abtest.reporting.page import write_page
    from simulators.abtest.reporting.progress import Progress
    from simulators.abtest.reporting.report import Run, summary_of
    from simulators.abtest.seeds import run_seeds

    console, runs, title = Console(stderr=True), list[Run](), f"{run.names['b']} against {run.names['a']}"
    progress = Progress(folder, title, len(run.seeds), run.test[2].days)
    with console.status("abtest") as status:

        def told(seed: int, day: int, verdict: Any) -> None:
            status.update(f"seed {seed}, {len(runs)} of {len(run.seeds)} done: day {day} of the test")
            progress.told(seed, day, verdict)

        for one in run_seeds(*run.test, run.seeds, told, opens, (KeptRuns(folder / "worlds"), "")):
            runs.append(one)
            summary = summary_of(runs, run.names, run.effect)
            (folder / "abtest.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2))
            page = write_page(summary, title, folder)
    _print(runs, summary, title, console)
    console.print(f"figures: {page}, {folder / 'abtest.json'}")
    return summary


def _worlds(parameters: Any, vary: list[str]) -> list[Any]:
    """The worlds of all sweeps."""
    from simulators.abtest.varying.sweep import parse_sweep, worlds_of

    return worlds_of(parameters, [parse_sweep(one) for one in vary])


def _vary(run: _Run, worlds: list[Any], folder: Path) -> dict[str, Any]:
    from simulators.abtest.reporting.kept import KeptRuns
    from simulators.abtest.varying.report import tables_of, write_points
    from simulators.abtest.varying.sweep import run_worlds

    console, points, title = Console(stderr=True), list[dict[str, Any]](), f"{run.names['b']} against {run.names['a']}"
    _, arms, how = run.test
    with console.status("abtest") as status:

        def told(parameter: str, value: float, seed: int) -> None:
            status.update(f"{parameter} {value:g}, seed {seed}")

        for point in run_worlds(worlds, (arms, how), run.seeds, told, KeptRuns(folder / "worlds")):
            points.append(point.as_json())
            page = write_points(points, title, folder)
    console.print(f"{title}, {len(run.seeds)} worlds of each kind", *tables_of(points))
    console.print(f"figures: {page}, {folder / 'vary.json'}")
    return {"title": title, "points": points}


def _print(runs: list[Any], summary: dict[str, Any], title: str, console: Console) -> None:
    from simulators.abtest.reporting.report import table_of

    console.print(table_of(runs, f"{title}, {len(runs)} worlds"))
    console.print(
        f"{summary['intervals_excluding_zero']} of {summary['intervals']} intervals of single worlds exclude 0; "
        f"{summary['uneven_splits']} splits were uneven (p < .001)"
    )
    if "users_needed" in summary:
        _print_needed(summary["users_needed"], console)


def _print_needed(needed: dict[str, Any], console: Console) -> None:
    console.print(f"users of both arms that a relative effect of {needed['effect']:g} needs (power 80 %):")
    for group, of in needed.items():
        if group != "effect":
            console.print(f"  {group}: " + ", ".join(f"{metric} {number:,}" for metric, number in of.items()))
