"""`coldstream abtest`: two pipelines behind one world."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from simulators.commands.options import RunName, UsageError, checked
from simulators.commands.outcome import emptied, run_folder
from stream.command.options import AsJson
from stream.command.output import print_json

_MOST_SEEDS = 1000
_Arm = Annotated[Path | None, typer.Argument(metavar="[ARM.toml]", help="Settings of an arm, with a table [arm].")]


def abtest(
    first: _Arm = None,
    second: _Arm = None,
    aa: Annotated[bool, typer.Option("--aa", help="Compare the first arm with itself.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=_MOST_SEEDS, help="Worlds; effects are pooled over them.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=1 << 31, help="The first of the seeds.")] = 7,
    world: Annotated[Path | None, typer.Option(help="TOML file of the world; default: the shipped one.")] = None,
    days: Annotated[int, typer.Option(help="Of the test.")] = 5,
    days_before: Annotated[int, typer.Option(help="In which the first arm serves everybody.")] = 3,
    candidates: Annotated[int, typer.Option(help="Drawn for each visit.")] = 100,
    cap: Annotated[float, typer.Option(help="No figure of a user is above this quantile; 1: as it is.")] = 0.99,
    learns_from: Annotated[str, typer.Option(help="Whose impressions an arm learns from: own, or all.")] = "own",
    power: Annotated[
        float, typer.Option(min=0, max=10, help="Say how many users a relative effect needs, as 0.01; 0: do not.")
    ] = 0.0,
    fast: Annotated[bool, typer.Option("--fast", help="In this process, without a broker; it is always so.")] = True,
    name: RunName = "abtest",
    as_json: AsJson = False,
) -> None:
    """Split a world's users between two pipelines, and say whom that helps: new users, old ones, all."""
    given = {"days": days, "days_before": days_before, "candidates": candidates, "learns_from": learns_from, "cap": cap}
    files = _files(first, second, aa=aa)
    names, test = _loaded(files, world, given)
    folder = emptied(run_folder(name))
    summary = _run(test, names, range(seed, seed + seeds), checked({"power": power}, _Power).power, folder)
    if as_json:
        print_json(summary)


class _Power(msgspec.Struct, frozen=True):
    power: Annotated[float, msgspec.Meta(ge=0, le=10)]


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


def _run(
    test: tuple[Any, Any, Any], names: dict[str, str], seeds: range, effect: float, folder: Path
) -> dict[str, Any]:
    from simulators.abtest.page import write_page
    from simulators.abtest.report import Run, summary_of, table_of
    from simulators.abtest.seeds import run_seeds

    console, runs, title = Console(stderr=True), list[Run](), f"{names['b']} against {names['a']}"
    with console.status("abtest") as status:

        def told(seed: int, day: int, _: object) -> None:
            status.update(f"seed {seed}, {len(runs)} of {len(seeds)} done: day {day} of the test")

        for run in run_seeds(*test, seeds, told):
            runs.append(run)
            summary = summary_of(runs, names, effect)
            (folder / "abtest.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2))
            page = write_page(summary, title, folder)
    console.print(table_of(runs, f"{title}, {len(runs)} worlds"))
    console.print(
        f"{summary['intervals_excluding_zero']} of {summary['intervals']} intervals of single worlds exclude 0; "
        f"{summary['uneven_splits']} splits were uneven (p < .001)"
    )
    if effect:
        _print_needed(summary["users_needed"], console)
    console.print(f"figures: {page}, {folder / 'abtest.json'}")
    return summary


def _print_needed(needed: dict[str, Any], console: Console) -> None:
    console.print(f"users of both arms that a relative effect of {needed['effect']:g} needs (power 80 %):")
    for group, of in needed.items():
        if group != "effect":
            console.print(f"  {group}: " + ", ".join(f"{metric} {number:,}" for metric, number in of.items()))
