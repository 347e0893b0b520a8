"""What `coldstream experiment kuairand-pure --tasks` does: options, progress, report."""

import argparse
from collections.abc import Sequence

import msgspec
from rich.console import Console

from simulators.commands.experiments import add_kept, opened, that_make
from simulators.commands.one_pass.stream import add_pass, check
from simulators.commands.options import Parser, UsageError, parse_events
from simulators.experiments.kept import Kept
from simulators.experiments.stream.recorded import obtain
from simulators.experiments.stream.variant import Variant
from simulators.experiments.tasks.report import TasksReport
from simulators.experiments.tasks.run import TasksExperiment, TasksResult
from simulators.experiments.tasks.truth import TaskTruth
from simulators.experiments.tasks.variants import task_variants
from simulators.replay import ReplaySettings
from state_store.tasks import TaskSettings
from stream.command.options import usable_folder
from stream.command.output import print_json
from stream.settings import load_settings

_DESCRIPTION = """Several tasks in one pass: click, long_view, like, and the seconds watched as an expected value. A
deep part of each task alone; one deep part with heads (shared bottom, MMoE, SNR, PLE), its losses balanced by fixed
weights, learned variances or projected gradients; fast parts alone, and beside heads. All learn the very same samples.
Every finished run is kept in --out and not done again."""
_TASKS = ("click", "long_view", "like")
_WATCH = TaskSettings(name="watch", positive=("play",))
_UNIT_S = 15.0
"""About the mean of what is watched."""


def parser_of(log: str) -> argparse.ArgumentParser:
    """Options of the experiment."""
    parser = Parser(prog=f"coldstream experiment {log} --tasks", description=_DESCRIPTION)
    parser.add_argument("--tasks", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="models whose name has one of these")
    add_pass(parser)
    add_kept(parser, "runs/tasks")
    return parser


def run(log_name: str, arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Raises:
        UsageError: they make no sense.
    """
    options = parser_of(log_name).parse_args(arguments)
    check(options)
    console = Console(stderr=True)
    experiment = _experiment(log_name, options, console)
    chosen = [variant for variant in experiment.variants if any(part in variant.name for part in options.only)]
    if not chosen:
        raise UsageError(f"--only {' '.join(options.only)}: models are {[each.name for each in experiment.variants]}")
    if not options.report:
        _learn(experiment, chosen, options.seeds, console)
    report = TasksReport(experiment, options.seeds)
    with console.status("comparing"):
        text = report.text(" ".join([f"coldstream experiment {log_name}", *that_make(arguments)]))
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = experiment.kept.write(f"tasks-{log_name}.md", text)
    console.print(f"written to {path}; paste it into learner/RESULTS.md", soft_wrap=True)
    if options.json:
        print_json(report.figures())


def _learn(experiment: TasksExperiment, chosen: Sequence[Variant], seeds: Sequence[int], console: Console) -> None:
    num_samples, done = experiment.recording.header.num_samples, 0
    with console.status("learning") as status:

        def told(num_more: int) -> None:
            nonlocal done
            done = (done + num_more) % num_samples
            status.update(f"learning: {done / num_samples:.0%} of this model's samples")

        for result in experiment.run(chosen, seeds, told):
            figures = ", ".join(f"{task} {auc:.4f}" for task, auc in zip(experiment.tasks, result.auc, strict=True))
            console.print(
                f"{result.variant}, seed {result.seed}: {figures}; {result.seconds:.0f} s",
                highlight=False,
                soft_wrap=True,
            )


def _experiment(log_name: str, options: argparse.Namespace, console: Console) -> TasksExperiment:
    log = opened(log_name, options.data, console)
    settings = load_settings(environment={}, defaults=log.settings)
    tasks = (*(task for task in settings.tasks if task.name in _TASKS), _WATCH)
    settings = msgspec.structs.replace(settings, tasks=tasks)
    kept = Kept(usable_folder(options.out, "--out"), TasksResult)
    variants = list(task_variants(options.micro_batch, [task.name for task in tasks], {_WATCH.name: _UNIT_S}))
    with console.status("reading the recording") as status:
        how = ReplaySettings(num_rows=parse_events(options.events))
        recording = obtain(settings, log, how, usable_folder(options.out / "recordings", "--out"), status.update)
        recipe = variants[0].recipe(recording.settings.recipe, options.seeds[0])
        return TasksExperiment(recording, TaskTruth(recording, recipe.tasks, options.replicates), kept, variants)
