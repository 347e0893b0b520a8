"""What `coldstream experiment NAME --histories` does: options, progress, report."""

import argparse
from collections.abc import Sequence

import msgspec
import torch
from rich.console import Console

from simulators.commands.experiments import add_kept, opened, that_make
from simulators.commands.one_pass.stream import add_pass, check, is_wanted, learn
from simulators.commands.options import Parser, UsageError, parse_events
from simulators.experiments.histories.arms import PASTS, Past, arms, history_of, of_tokens
from simulators.experiments.histories.cohorts import cohorts_of
from simulators.experiments.histories.report import HistoriesReport, compare, report
from simulators.experiments.kept import Kept
from simulators.experiments.stream.figures import Truth
from simulators.experiments.stream.judge import Judge
from simulators.experiments.stream.recorded import columns_of, obtain
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variant import Variant
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from stream.command.options import usable_folder
from stream.command.output import print_json
from stream.settings import load_settings

_DESCRIPTION = """What a user did, in one pass over a log: the mean of past items in the fast part; in a DNN mean, DIN,
Multi-DIN, DMT and SIM; tokens of whole past samples (SIF) beside tokens of items, of items with two fields and of
vectors that are not quantised, with other ways to mix them. Each at several lengths of the history, and by how long it
was. A backtest is recorded once, and all learn its samples; codes are those that the model under test had published
when the impression passed. Every finished run is kept in --out and not done again."""
_MOST = 1000


def parser_of(log: str) -> argparse.ArgumentParser:
    """Options of the experiment on one log."""
    parser = Parser(prog=f"coldstream experiment {log} --histories", description=_DESCRIPTION)
    parser.add_argument("--histories", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--lengths", nargs="+", type=int, default=[20, 50], metavar="L", help="entries of the history")
    parser.add_argument("--recorded-length", type=int, metavar="L", help="that samples carry; default: the longest")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="models whose name has one of these")
    parser.add_argument(
        "--freeze", type=int, default=20_000, metavar="N", help="samples between two frozen versions of a tokenizer"
    )
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--list", action="store_true", help="name the models, and end")
    add_pass(parser)
    add_kept(parser, "runs/histories")
    return parser


def run(log_name: str, arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Raises:
        UsageError: they make no sense.
    """
    options = parser_of(log_name).parse_args(arguments)
    past = PASTS[log_name]
    _chosen(past, options)
    if options.list:
        print("\n".join(arm.variant.name for arm in arms(past, options.lengths, options.freeze)))
        return
    console = Console(stderr=True)
    log = opened(log_name, options.data, console)
    found = experiment_on(
        log, past, options, " ".join([f"coldstream experiment {log_name}", *that_make(arguments)]), console
    )
    if options.json:
        print_json(found)


def experiment_on(log: Log, past: Past, options: argparse.Namespace, command: str, console: Console) -> HistoriesReport:
    """Learn what is not there yet, and report.

    Args:
        log: whose samples are learned.
        past: what is a history of it.
        options: of the command.
        command: how it was called, for the report.
        console: where progress and report are shown.
    """
    chosen = _chosen(past, options)
    every = list(arms(past, options.lengths, options.freeze))
    torch.set_num_threads(options.threads)
    experiment = _experiment(log, past, options, console)
    if not options.report:
        learn(experiment, chosen, [], options.seeds, console)
    results = [result for arm in every for seed in options.seeds if (result := experiment.find(arm.variant, seed))]
    with console.status("comparing"):
        cohorts = cohorts_of(experiment.truth.entries_N, experiment.truth.user_counts_N, options.recorded_length)
        judge = Judge(experiment, results, cohorts)
        found = compare(experiment, judge, every, of_tokens(past, options.lengths))
        text = report(found, judge, results, command)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = experiment.kept.write(f"{found.file}.md", text)
    experiment.kept.write(f"{found.file}.json", msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    console.print(f"written to {path}; paste it into learner/RESULTS.md", soft_wrap=True)
    return found


def _chosen(past: Past, options: argparse.Namespace) -> list[Variant]:
    """The models that are wanted, where everything that is asked for makes sense."""
    _check(options)
    every = arms(past, options.lengths, options.freeze)
    chosen = [arm.variant for arm in every if is_wanted(arm.variant.name, options.only)]
    if not chosen:
        raise UsageError(f"--only {' '.join(options.only)}: no model has that in its name; --list shows all")
    return chosen


def _check(options: argparse.Namespace) -> None:
    check(options)
    longest = max(options.lengths)
    options.recorded_length = options.recorded_length or longest
    for name, value, least, most in (
        ("--lengths", min(options.lengths), 1, _MOST),
        ("--lengths", longest, 1, options.recorded_length),
        ("--recorded-length", options.recorded_length, 1, _MOST),
        ("--freeze", options.freeze, 1, 1 << 40),
        ("--threads", options.threads, 1, 1024),
    ):
        if not least <= value <= most:
            raise UsageError(f"{name} {value}: expected {least} to {most:,}")
    if len(set(options.lengths)) < len(options.lengths):
        raise UsageError(f"--lengths {' '.join(map(str, options.lengths))}: one is there twice")


def _experiment(log: Log, past: Past, options: argparse.Namespace, console: Console) -> StreamExperiment:
    settings = load_settings(environment={}, defaults=log.settings)
    learner = msgspec.structs.replace(settings.learner, micro_batch=options.micro_batch)
    histories = (history_of(past, options.recorded_length),)
    settings = msgspec.structs.replace(settings, histories=histories, learner=learner)
    kept = Kept(usable_folder(options.out, "--out"), StreamResult)
    how = ReplaySettings(num_rows=parse_events(options.events))
    with console.status("reading the recording") as status:
        recording = obtain(settings, log, how, usable_folder(options.out / "recordings", "--out"), status.update)
        return StreamExperiment(recording, Truth(columns_of(recording), options.replicates), kept)
