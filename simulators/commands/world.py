"""`coldstream world`: a world's parameters, from a log or to start from, and how fast it goes."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from simulators.commands.options import UsageError, parse_events
from stream.command.options import AsJson
from stream.command.output import print_json

world = typer.Typer(help="A made up world with known truth.", no_args_is_help=True)
_File = Annotated[Path | None, typer.Option("--world", help="TOML file of the world; default: the shipped one.")]


@world.command("show")
def show() -> None:
    """Print the default world: every parameter, with what it means."""
    from simulators.world.parameters import SHIPPED

    print(SHIPPED.read_text(encoding="utf-8"), end="")


@world.command("fit")
def fit(
    log: Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A log, as ml-1m or kuairand-pure.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the data files; default: data/NAME.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write the world.")] = None,
    events: Annotated[str, typer.Option("--events", help="Rows of the log, oldest first, or 'all'.")] = "all",
    as_json: AsJson = False,
) -> None:
    """Set what a log can say of a world, and show both side by side."""
    from simulators.logs.open import open_log
    from simulators.world.fitting.fit import fit_world

    if output is not None and output.exists():
        raise UsageError(f"-o {output} is there already; give another name, or remove it")
    console = Console(stderr=True)
    with console.status("reading"):
        found = fit_world(open_log(log, data), parse_events(events))
    table = Table(title=f"a world beside {log}", box=SIMPLE, padding=(0, 1))
    for column in ("figure", "log", "world"):
        table.add_column(column, justify="left" if column == "figure" else "right", no_wrap=True)
    for name, beside in found.figures.items():
        table.add_row(name, *("-" if value is None else f"{value:,.4g}" for value in beside))
    console.print(table)
    if output is not None:
        output.write_text(found.toml, encoding="utf-8")
        console.print(f"{output}: use it as --log world:{output}, or `coldstream abtest --world {output}`")
    if as_json:
        print_json({"figures": {name: {"log": a, "world": b} for name, (a, b) in found.figures.items()}})


@world.command("stream")
def stream(
    events: Annotated[str, typer.Option("--events", help="Impressions to make.")] = "1000000",
    file: _File = None,
    seed: Annotated[int, typer.Option(min=0, max=1 << 31, help="Of the world.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Make impressions and throw them away: how many a second, and how much memory that takes."""
    import resource
    import time

    from simulators.logs.log import ROWS
    from simulators.world.log import WorldLog
    from simulators.world.parameters import SHIPPED, load_parameters

    number = parse_events(events)
    if not number:
        raise UsageError("--events all: a world has no end; give a number")
    console = Console(stderr=True)
    log = WorldLog(load_parameters(file or SHIPPED), seed, number)
    began, done, figures = time.perf_counter(), 0, list[dict[str, Any]]()
    for rows in log.stretches():
        done += len(rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        a_second = done / (time.perf_counter() - began)
        figures.append({"impressions": done, "per_second": round(a_second), "peak_mib": round(peak)})
        if done == len(rows) or done >= number or done % (5 * ROWS) < ROWS:
            console.print(f"{done:,} impressions, {a_second:,.0f} a second, peak memory {peak:,.0f} MiB")
    if as_json:
        print_json({"stretches": figures})
