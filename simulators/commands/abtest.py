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
    fast: Annotated[bool, typer.Option("--fast", help="In this process, without a broker: as it always is.")] = False,
    name: RunName = "abtest",
    as_json: AsJson = False,
) -> None:
    """Split a world's users between two pipelines, and say whom that helps: new users, old ones, all."""
    from simulators.abtest.arm import load_arm
    from simulators.abtest.run import TestSettings
    from simulators.world.parameters import SHIPPED, load_parameters

    if not aa and second is None:
        raise UsageError("abtest: give two arms, A.toml and B.toml, or --aa to compare one with itself")
    if aa and second is not None:
        raise UsageError(f"abtest --aa compares the first arm with itself; leave {second} out")
    given = {"days": days, "days_before": days_before, "candidates": candidates, "learns_from": learns_from, "cap": cap}
    how = checked(given, TestSettings)
    parameters = load_parameters(world or SHIPPED)
    files = {"a": first, "b": first if aa else second}
    arms = load_arm("a", files["a"], parameters), load_arm("b", files["b"], parameters)
    folder = emptied(run_folder(name))
    names = {arm: "the world's settings" if file is None else str(file) for arm, file in files.items()}
    summary = _run((parameters, arms, how), range(seed, seed + seeds), (names, power), folder)
    if as_json:
        print_json(summary)


def _run(what: tuple[Any, Any, Any], seeds: range, said: tuple[dict[str, str], float], folder: Path) -> dict[str, Any]:
    from simulators.abtest.report import Run, summary_of, table_of
    from simulators.abtest.seeds import run_seeds

    console, runs, (names, effect) = Console(stderr=True), list[Run](), said
    with console.status("abtest") as status:

        def told(seed: int, day: int, _: object) -> None:
            status.update(f"seed {seed}, {len(runs)} of {len(seeds)} done: day {day} of the test")

        for run in run_seeds(*what, seeds, told):
            runs.append(run)
            summary = summary_of(runs, names, effect)
            (folder / "abtest.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2))
    console.print(table_of(runs, f"{names['b']} against {names['a']}, {len(runs)} worlds"))
    console.print(
        f"{summary['intervals_excluding_zero']} of {summary['intervals']} intervals of single worlds exclude 0; "
        f"{summary['uneven_splits']} splits were uneven (p < .001)"
    )
    if effect:
        console.print(f"users needed for a relative effect of {effect:g} (power 80 %): {summary['users_needed']}")
    console.print(f"all figures: {folder / 'abtest.json'}")
    return summary
