"""What `coldstream experiment` does: plan, progress, report."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from simulators.commands.options import UsageError
from simulators.experiments.cold_items.comparators import STARTS, ComparatorSettings
from simulators.experiments.cold_items.run import ColdItems, ColdResult
from simulators.experiments.kept import Kept
from simulators.experiments.offline.results import Results, RunResult
from simulators.experiments.offline.search import Plan, carry_out, device_of, num_done
from simulators.experiments.offline.settings import (
    HyperParameters,
    RunSettings,
    grid_of,
    model_settings,
    parse_options,
)
from simulators.experiments.offline.training import Progress as Told
from simulators.experiments.ratings import PAPER_FIELDS, Ratings, ratings_of
from simulators.experiments.reporting.cold_items import report as cold_report
from simulators.experiments.reporting.compared import Judge
from simulators.experiments.reporting.table3 import report
from simulators.logs.log import Log
from simulators.logs.open import open_log
from stream.command.options import usable_folder
from stream.command.output import print_json
from stream.settings import load_settings

LOG = "ml-1m"
T = TypeVar("T")


def table_3(options: argparse.Namespace, command: str) -> None:
    """Base models and the framework around them, over epochs, on random splits.

    Args:
        options: of the command.
        command: how it was called, for the report.
    """
    console = Console(stderr=True)
    plan = _plan(options)
    device = device_of(options.device)
    torch.set_num_threads(options.threads)
    results = Results(usable_folder(options.out, "--out"))
    ratings = opened_ratings(options.data, console)
    if not options.report:
        _carry_out(plan, results, ratings, device, console)
    judge = Judge(ratings, results, plan.common.share)
    with console.status("comparing"):
        text, compared = report(plan, results, judge, command)
    path = results.write("table3.md", text)
    encoded = msgspec.json.format(msgspec.json.encode(compared), indent=1)
    results.write("table3.json", encoded.decode())
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written to {path}; paste it into learner/RESULTS.md")
    if options.json:
        print_json({"compared": compared, "runs": num_done(plan, results), "of": plan.num_runs, "report": str(path)})


def cold_items(options: argparse.Namespace, command: str) -> None:
    """Items with 0, 20, 40 and 60 ratings, by the product's learner and by others.

    Args:
        options: of the command.
        command: how it was called, for the report.
    """
    console = Console(stderr=True)
    device = device_of(options.device)
    torch.set_num_threads(options.threads)
    seeds = _seeds(options)
    methods = [
        checked(
            {"start": start, "model": model, "passes": passes, "rounds": rounds, "learns": learns}, ComparatorSettings
        )
        for model in options.comparators
        for start in STARTS
        for passes in options.passes
        for rounds in options.rounds
        for learns in options.learns
    ]
    kept = Kept(usable_folder(options.out, "--out"), ColdResult)
    log = opened(LOG, options.data, console)
    settings = load_settings(environment={}, overrides=["join.settle_ms=0"], defaults=log.settings)
    experiment = ColdItems(ratings_of(log, settings.fields), settings.recipe, kept, device)
    results = []
    with console.status("cold items") as status:
        for result in experiment.run(methods, seeds, status.update):
            results.append(result)
            aucs = ", ".join(f"{phase.name} {phase.auc:.4f}" for phase in result.phases)
            console.print(f"{result.name}: {aucs}; {result.seconds:.0f} s", highlight=False, soft_wrap=True)
        status.update("comparing")
        text = cold_report(experiment, kept, results, command)
    path = kept.write("cold-items.md", text)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written to {path}; paste it into learner/RESULTS.md")
    if options.json:
        print_json({"results": results, "report": str(path)})


def _seeds(options: argparse.Namespace) -> tuple[int, ...]:
    if options.threads < 1:
        raise UsageError(f"--threads {options.threads}: expected 1 or more")
    return checked_seeds(options.seeds)


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Seeds of an experiment.

    Raises:
        UsageError: one is out of bounds, or there twice.
    """
    for seed in seeds:
        checked({"seed": seed, "model": "", "variant": "base"}, RunSettings)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {' '.join(map(str, seeds))}: one is there twice")
    return tuple(seeds)


def _plan(options: argparse.Namespace) -> Plan:
    given = {
        "model": options.models[0],
        "variant": options.variants[0],
        "seed": options.seeds[0],
        "options": parse_options(options.set),
        **{name: getattr(options, name) for name in ("epochs", "patience", "share")},
    }
    seeds = _seeds(options)
    variants = options.variants if "base" in options.variants else ["base", *options.variants]
    plan = Plan(
        tuple(dict.fromkeys(options.models)),
        tuple(dict.fromkeys(variants)),
        seeds,
        grid_of(**{name: getattr(options, name) for name in HyperParameters.__struct_fields__}),
        checked(given, RunSettings),
    )
    for model in plan.models:
        for variant in plan.variants:
            for run in plan.searched(model, variant):
                # Says what is wrong before anything is trained.
                model_settings(run)
    return plan


def checked(given: dict[str, Any], kind: type[T]) -> T:
    """Options as settings.

    Raises:
        UsageError: one is out of bounds; names it.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$.")
        name = where.rstrip("`")
        option = "seeds" if name == "seed" else name
        raise UsageError(f"--{option} {given.get(name)}: {problem}") from exc


def opened(name: str, data: Path | None, console: Console) -> Log:
    """A log that is shipped; says where it comes from.

    Args:
        name: of the log.
        data: folder with its files, if it is another than usual.
        console: where that is said.
    """
    log = open_log(name, data)
    console.print(f"data: {log.name} from {log.source} ({log.licence})", soft_wrap=True)
    return log


def add_kept(parser: argparse.ArgumentParser, out: str) -> None:
    """Options of an experiment whose finished runs are kept.

    Args:
        parser: of its command line.
        out: where, if nothing is said.
    """
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the log's files")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER", help="kept and found here")
    parser.add_argument("--report", action="store_true", help="show what is there, and learn nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line on stdout")


def that_make(arguments: Sequence[str]) -> list[str]:
    """Arguments that make figures, and not those that show them once more; for the command beside a table.

    >>> that_make(["--stream", "--report", "--seeds", "7", "--json"])
    ['--stream', '--seeds', '7']
    """
    return [argument for argument in arguments if argument not in ("--report", "--json")]


def opened_ratings(data: Path | None, console: Console) -> Ratings:
    """Ratings of MovieLens-1M with the fields of the paper; arguments as of `opened`."""
    log = opened(LOG, data, console)
    fields = load_settings(environment={}, defaults=log.settings).fields
    return ratings_of(log, [field for field in fields if field.name in PAPER_FIELDS])


def _carry_out(plan: Plan, results: Results, ratings: Ratings, device: torch.device, console: Console) -> None:
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        whole = progress.add_task("runs", total=plan.num_runs, completed=num_done(plan, results))

        def started(run: RunSettings) -> Told:
            task = progress.add_task(run.name, total=run.epochs)

            def told(epoch: int, share: float) -> None:
                progress.update(task, description=f"{run.name}, epoch {epoch + 1}", completed=epoch + share)

            tasks.append(task)
            return told

        tasks: list[Any] = []
        for result in carry_out(plan, results, ratings, device, started):
            progress.remove_task(tasks.pop())
            progress.advance(whole)
            console.print(_line(result), highlight=False, soft_wrap=True)


def _line(result: RunResult) -> str:
    best = result.at_best
    return (
        f"{result.run.name}: best of {len(result.epochs)} epochs is {result.best + 1}, validation AUC "
        f"{best.valid_auc:.4f}, test AUC {best.test_auc:.4f}, {result.seconds:.0f} s"
    )
