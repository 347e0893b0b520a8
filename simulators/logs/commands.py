"""Commands about logs: which there are, what a mapping makes of the data, a first mapping for a file."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from state_store.errors import OperatorError
from stream.command.options import AsJson
from stream.command.output import print_json

logs = typer.Typer(help="Logs to replay: mapping files, and what they make of data.", no_args_is_help=True)
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the data files; default: data/NAME.")]


class UsageError(OperatorError):
    """An argument is not what it should be."""


@logs.command("list")
def list_logs(as_json: AsJson = False) -> None:
    """Which logs have a mapping that comes with the project."""
    from simulators.logs.mapping import load_mapping, shipped

    known = {name: load_mapping(path).title for name, path in shipped().items()}
    known["synthetic"] = "Made up ratings, for when no data is at hand"
    known["world"] = "A made up world with known truth (world:FILE: with parameters of one's own)"
    if as_json:
        print_json(known)
        return
    table = Table(box=SIMPLE, padding=(0, 1))
    table.add_column("log", no_wrap=True)
    table.add_column("what it is")
    for name, title in known.items():
        table.add_row(name, title)
    Console().print(table)


@logs.command("show")
def show(name: str) -> None:
    """A mapping file, to read or to start from."""
    from simulators.logs.mapping import find_mapping

    print(find_mapping(name).read_text(encoding="utf-8"), end="")


@logs.command("check")
def check(
    name_or_file: Annotated[str, typer.Argument(metavar="NAME_OR_FILE")],
    data: Data = None,
    rows: Annotated[int, typer.Option(min=0, max=100_000, help="First rows to show as events.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Read a whole log: its first events, counts, label rates, long tail, cold users, and what could not be used."""
    from simulators.logs.look.survey import Survey, first_events
    from simulators.logs.mapped_log import MappedLog
    from simulators.logs.open import open_log

    console = Console(stderr=True)
    log = open_log(name_or_file, data)
    survey = Survey(log.feedback)
    with console.status("reading") as status:
        for stretch in log.stretches():
            survey.update(stretch)
            status.update(f"{survey.compute()['rows']:,} rows")
        figures = {"log": log.name, "source": log.source, "licence": log.licence, **survey.compute()}
        figures["user_table"], figures["item_table"] = len(log.users), len(log.items)
        rejects = log.rejects() if isinstance(log, MappedLog) else None
        examples = {} if rejects is None else msgspec.to_builtins(rejects.examples)
        counts = {} if rejects is None else rejects.counts
        figures["rejected"] = {reason: {"count": n, "examples": examples[reason]} for reason, n in counts.items()}
        figures["first_events"] = first_events(log, rows) if rows else []
    if as_json:
        print_json(figures)
    else:
        _print(figures, Console())


def _print(figures: dict[str, Any], console: Console) -> None:
    from simulators.logs.look.survey import COLD, TOP_SHARE

    console.print(f"[bold]{figures['log']}[/] from {figures['source']}; {figures['licence'] or 'no licence stated'}")
    for event in figures["first_events"]:
        console.print(msgspec.json.encode(event).decode(), markup=False, highlight=False, soft_wrap=True)
    table = Table(box=SIMPLE, padding=(0, 1), show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("figure")
    for what, value in _lines(figures, COLD, TOP_SHARE):
        table.add_row(what, value)
    console.print(table)
    for reason, found in figures["rejected"].items():
        console.print(f"left out: {found['count']:,} rows, {reason}", markup=False)
        for example in found["examples"]:
            console.print(
                f"  {example['file']}, row {example['row']}: {example['text']}", markup=False, highlight=False
            )


def _lines(figures: dict[str, Any], cold: int, top_share: float) -> list[tuple[str, str]]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    lines = [(name, f"{figures[name]:,}") for name in ("rows", "impressions", "users", "items")]
    lines += [(f"{name} in tables", f"{figures[f'{name}_table']:,}") for name in ("user", "item")]
    lines.append(("from", _time(figures["first_ts"])))
    lines.append(("to", f"{_time(figures['last_ts'])} ({figures['days']:,} days)"))
    lines += [
        (name, f"{found['count']:,} ({'-' if found['rate'] is None else format(found['rate'], '.4f')} of impressions)")
        for name, found in figures["feedback"].items()
    ]
    lines.append((f"top {top_share:.0%} of users", f"{share(figures['share_of_top_users'])} of impressions"))
    lines.append((f"top {top_share:.0%} of items", f"{share(figures['share_of_top_items'])} of impressions"))
    lines.append(
        ("of cold users", f"{share(figures['share_of_cold_impressions'])} (fewer than {cold} impressions so far)")
    )
    return lines


def _time(ts: int) -> str:
    import polars as pl

    return str(pl.from_epoch(pl.Series([ts]), "ms").dt.strftime("%Y-%m-%d %H:%M:%S UTC")[0])


@logs.command("new")
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A data file: CSV, TSV, JSON Lines, Parquet.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write it; default: print it.")] = None,
) -> None:
    """Write a first mapping for a data file, by looking at its columns."""
    from simulators.logs.look.draft import draft_mapping

    text = draft_mapping(file)
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UsageError(f"-o {output} is there already; give another name, or remove it")
    output.write_text(text, encoding="utf-8")
    Console(stderr=True).print(
        f"{output}: look at what is marked ???, then `coldstream logs check {output} --data {file.parent}`"
    )
