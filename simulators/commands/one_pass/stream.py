"""What `coldstream experiment NAME --stream` does: options, progress, report."""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from simulators.commands.experiments import add_kept, checked_seeds, opened, that_make
from simulators.commands.options import Parser, UsageError, parse_events
from simulators.experiments.kept import Kept, KeptError
from simulators.experiments.reporting import learned_weights
from simulators.experiments.reporting.findings import StreamReport
from simulators.experiments.reporting.stream import compared_of, more, report
from simulators.experiments.stream.figures import Truth
from simulators.experiments.stream.judge import Judge
from simulators.experiments.stream.recorded import columns_of, obtain
from simulators.experiments.stream.run import RIVALS, StreamExperiment, StreamResult, Told
from simulators.experiments.stream.variant import BLOCK, Variant
from simulators.experiments.stream.variants import variants
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from stream.command.options import usable_folder
from stream.command.output import print_json
from stream.settings import Settings, load_settings

_DESCRIPTION = """A log in the order of time, in one pass: AdaF2M2's masks and adapter around DCN-V2, each with and
without the fast part; the fast part with and without its gate, and with masks; River's FTRL, Vowpal Wabbit where it can
be installed, the item's mean. A backtest is recorded once, and all learn its samples in its order. Every finished run
is kept in --out and not done again. The report names what lifts cold users or items on every log in --out."""

_MOST_REPLICATES = 100_000


def parser_of(log: str) -> argparse.ArgumentParser:
    """Options of the experiment on one log."""
    parser = Parser(prog=f"coldstream experiment {log} --stream", description=_DESCRIPTION)
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--task", default="", help="whose labels are learned; default: the log's own main task")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="variants whose name has one of these")
    parser.add_argument("--set", nargs="+", default=[], metavar="SECTION.NAME=VALUE", help="settings")
    parser.add_argument("--no-rivals", action="store_true", help="leave River, Vowpal Wabbit and the item's mean out")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="recordings; default: `recordings` in --out")
    parser.add_argument("--list", action="store_true", help="name the variants, and end")
    add_pass(parser)
    add_kept(parser, "runs/stream")
    return parser


def add_pass(parser: argparse.ArgumentParser) -> None:
    """Options of every experiment in one pass, which `check` looks at."""
    parser.add_argument("--events", default="all", metavar="N", help="rows of the log, oldest first, or 'all'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8, 9], metavar="N", help="of the learner")
    parser.add_argument("--micro-batch", type=int, default=256, metavar="N", help="samples per step of the deep part")
    parser.add_argument("--replicates", type=int, default=400, metavar="N", help="of the bootstrap")


def run(log_name: str, arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Args:
        log_name: a log that is shipped.
        arguments: what follows it on the command line.

    Raises:
        UsageError: they make no sense.
    """
    options = parser_of(log_name).parse_args(arguments)
    if not options.stream:
        raise UsageError(f"experiment {log_name}: say which, --stream")
    if options.list:
        print("\n".join([variant.name for variant in variants(BLOCK)] + list(RIVALS)))
        return
    check(options)
    console = Console(stderr=True)
    log = opened(log_name, options.data, console)
    found = experiment_on(log, options, " ".join([f"coldstream experiment {log_name}", *that_make(arguments)]), console)
    if options.json:
        print_json(found)


def experiment_on(log: Log, options: argparse.Namespace, command: str, console: Console) -> StreamReport:
    """Learn what is not there yet, and report.

    Args:
        log: whose samples are learned.
        options: of the command.
        command: how it was called, for the report.
        console: where progress and report are shown.
    """
    every = list(variants(options.micro_batch))
    chosen = [variant for variant in every if is_wanted(variant.name, options.only)]
    rivals = [] if options.no_rivals else [name for name in RIVALS if is_wanted(name, options.only)]
    if not chosen and not rivals:
        raise UsageError(f"--only {' '.join(options.only)}: no variant has that in its name; --list shows all")
    experiment, seeds = _experiment(log, options, console), tuple(options.seeds)
    if not options.report:
        learn(experiment, chosen, rivals, seeds, console)
    with console.status("comparing"):
        text, found = _reported(experiment, every, seeds, command)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = experiment.kept.write(f"{found.file}.md", text)
    console.print(f"written to {path}, beside more by cohort; paste it into learner/RESULTS.md", soft_wrap=True)
    return found


def check(options: argparse.Namespace) -> None:
    """Whether what every experiment in one pass asks for makes sense.

    Raises:
        UsageError: it does not.
    """
    checked_seeds(options.seeds)
    parse_events(options.events)
    for option, value, most in (
        ("--micro-batch", options.micro_batch, BLOCK),
        ("--replicates", options.replicates, _MOST_REPLICATES),
    ):
        if not 1 <= value <= most:
            raise UsageError(f"{option} {value}: expected 1 to {most:,}")


def is_wanted(name: str, only: Sequence[str]) -> bool:
    """Whether a variant's name has one of the patterns; all have, where there are none.

    Raises:
        UsageError: one is no regular expression.
    """
    try:
        return not only or any(re.search(pattern, name) for pattern in only)
    except re.error as exc:
        raise UsageError(f"--only {' '.join(only)}: not a regular expression ({exc})") from exc


def of_task(settings: Settings, task: str) -> Settings:
    """Settings whose main task, which is what a model learns, is this one; empty: as they are.

    Raises:
        UsageError: there is no such task.
    """
    if not task or task == settings.main_task.name:
        return settings
    names = [each.name for each in settings.labels]
    if task not in names:
        raise UsageError(f"--task {task}: the log has {', '.join(names)}")
    tasks = tuple(msgspec.structs.replace(each, main=each.name == task) for each in settings.tasks)
    return msgspec.structs.replace(settings, tasks=tasks)


def _experiment(log: Log, options: argparse.Namespace, console: Console) -> StreamExperiment:
    how = ReplaySettings(num_rows=parse_events(options.events))
    settings = of_task(load_settings(environment={}, overrides=options.set, defaults=log.settings), options.task)
    kept = Kept(usable_folder(options.out, "--out"), StreamResult)
    folder = usable_folder(options.recorded or options.out / "recordings", "--recorded")
    with console.status("reading the recording") as status:
        recording = obtain(settings, log, how, folder, status.update)
        return StreamExperiment(recording, Truth(columns_of(recording), options.replicates), kept)


def learn(
    experiment: StreamExperiment,
    chosen: Sequence[Variant],
    rivals: Sequence[str],
    seeds: Sequence[int],
    console: Console,
) -> None:
    """Learn what is not there yet, and show how far it is.

    Args:
        experiment: what is learned.
        chosen: what learns.
        rivals: names of rivals that do.
        seeds: of the learner.
        console: where progress is shown.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    num_samples = experiment.recording.header.num_samples
    there = sum(experiment.find(variant, seed) is not None for variant in chosen for seed in seeds)
    there += sum(experiment.find_rival(name) is not None for name in rivals)
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        whole = progress.add_task("models", total=len(chosen) * len(seeds) + len(rivals), completed=there)
        one = progress.add_task("", total=num_samples)

        def told(what: str, num_more: int) -> None:
            if num_more:
                progress.update(one, description=what, advance=num_more)
            else:
                progress.reset(one, description=what)

        for result in _results(experiment, chosen, rivals, seeds, told):
            if isinstance(result, str):
                console.print(result, soft_wrap=True)
                continue
            progress.advance(whole)
            seed = "" if result.seed is None else f", seed {result.seed}"
            said = "no AUC" if result.auc is None else f"AUC {result.auc:.4f}"
            console.print(f"{result.variant}{seed}: {said}, {result.seconds:.0f} s", highlight=False, soft_wrap=True)


def _results(
    experiment: StreamExperiment, chosen: Sequence[Variant], rivals: Sequence[str], seeds: Sequence[int], told: Told
) -> Iterator[StreamResult | str]:
    yield from experiment.run_rivals(rivals, told)
    yield from experiment.run(chosen, seeds, told)


def _reported(
    experiment: StreamExperiment, every: Sequence[Variant], seeds: Sequence[int], command: str
) -> tuple[str, StreamReport]:
    """All that is there of the variants at these seeds, and of rivals."""
    found = [experiment.find(variant, seed) for variant in every for seed in seeds]
    results = [result for result in (*found, *map(experiment.find_rival, RIVALS)) if result is not None]
    judge = Judge(experiment, results)
    of = compared_of(experiment, judge, RIVALS)
    others = _others(experiment.kept.folder, of)
    experiment.kept.write(f"{of.file}.json", msgspec.json.format(msgspec.json.encode(of), indent=1).decode())
    means = learned_weights.mean_weights(experiment, results)
    picture = learned_weights.draw(means, of.name, experiment.kept.folder / f"{of.file}-weights.png")
    experiment.kept.write(f"{of.file}-more.md", more(of, judge))
    return report(of, others, judge, results, learned_weights.report(means, of.name, picture), command), of


def _others(folder: Path, of: StreamReport) -> list[StreamReport]:
    """What was found before, of other logs and tasks."""
    reports = []
    for path in sorted(folder.glob("stream-*.json")):
        if path.name == f"{of.file}.json":
            continue
        try:
            reports.append(msgspec.json.decode(path.read_bytes(), type=StreamReport))
        except msgspec.MsgspecError as exc:
            raise KeptError(f"{path} is not what this version writes ({exc}): remove it") from exc
    return reports
