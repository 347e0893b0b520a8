"""What `coldstream experiment NAME --new-items` does: options, progress, report."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simulators.commands.experiments import add_kept, checked_seeds, opened, that_make
from simulators.commands.options import Parser, UsageError
from simulators.experiments.kept import Kept
from simulators.experiments.new_items.arms import ARMS, MODELS, RANDOM, WHOLE
from simulators.experiments.new_items.run import NewItems, NewItemsResult
from simulators.experiments.reporting.new_items import report
from simulators.experiments.stream.recorded import obtain
from simulators.replay import ReplaySettings
from stream.command.options import usable_folder
from stream.command.output import print_json
from stream.settings import load_settings

_DESCRIPTION = """A log in one pass, with a share of its items withheld until the middle of it: how their first
impressions, and those of items that come late by themselves, fare by what new items start with ([content_start]). Every
finished run is kept in --out and not done again."""


def parser_of(log: str) -> argparse.ArgumentParser:
    """Options of the experiment on one log."""
    parser = Parser(prog=f"coldstream experiment {log} --new-items", description=_DESCRIPTION)
    parser.add_argument("--new-items", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, metavar="ARM", help="what is compared")
    parser.add_argument("--models", nargs="+", default=[WHOLE], choices=MODELS, metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="of learner and draw")
    parser.add_argument("--withhold", type=float, default=0.1, metavar="SHARE", help="of the items")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="from the beginning; 0: all")
    parser.add_argument("--replicates", type=int, default=400, metavar="N", help="of the bootstrap")
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.NAME=VALUE", help="settings")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="recordings; default: `recordings` in --out")
    add_kept(parser, "runs/new-items")
    return parser


def run(log_name: str, arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Args:
        log_name: a log that is shipped.
        arguments: what follows it on the command line.

    Raises:
        UsageError: they make no sense.
    """
    options = parser_of(log_name).parse_args(arguments)
    checked_seeds(options.seeds)
    if not 0 <= options.withhold < 1:
        raise UsageError(f"--withhold {options.withhold}: expected 0 or more, and less than 1")
    for option, value, least in (("--samples", options.samples, 0), ("--replicates", options.replicates, 1)):
        if value < least:
            raise UsageError(f"{option} {value}: expected {least} or more")
    console = Console(stderr=True)
    experiment = _experiment(log_name, options, console)
    results = _results(experiment, options, console)
    if not any(result.arm == RANDOM for result in results):
        raise UsageError(
            f"--arms {' '.join(options.arms)}: no result of {RANDOM!r}, which the others are compared with"
        )
    text = report(experiment, results, shlex.join(["coldstream", "experiment", log_name, *that_make(arguments)]))
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = experiment.kept.write(f"new-items-{log_name}.md", text)
    console.print(f"written to {path}; paste it into learner/RESULTS.md", soft_wrap=True)
    if options.json:
        print_json(results)


def _experiment(log_name: str, options: argparse.Namespace, console: Console) -> NewItems:
    log = opened(log_name, options.data, console)
    settings = load_settings(environment={}, overrides=options.set, defaults=log.settings)
    kept = Kept(usable_folder(options.out, "--out"), NewItemsResult)
    folder = usable_folder(options.recorded or options.out / "recordings", "--recorded")
    with console.status("reading the recording") as status:
        recording = obtain(settings, log, ReplaySettings(), folder, status.update)
        return NewItems(recording, kept, options.withhold, options.replicates, options.samples)


def _results(experiment: NewItems, options: argparse.Namespace, console: Console) -> list[NewItemsResult]:
    if options.report:
        every = [(a, m, s) for s in options.seeds for m in options.models for a in options.arms]
        found = [experiment.find(*one) for one in every]
        return [result for result in found if result is not None]
    with console.status("learning") as status:
        return list(experiment.run(options.arms, options.models, options.seeds, status.update))
