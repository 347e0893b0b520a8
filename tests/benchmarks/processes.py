"""`coldstream bench processes`: a learner of several processes beside one, on the very same samples.

A log is run through a backtest once, and all that it learns is recorded; one learner, and then groups of several at
several exchanges, predict and learn those samples in their order. Figures are progressive, on matured labels; what
sharing the samples out costs in them is the difference to one process.
"""

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import torch
from chosen_log import add_log_options, chosen_log
from quality.report import figures_of, result
from rich.console import Console
from support.group import group

from learner.group.leader import GroupLearner
from learner.learner import Learner
from learner.published.changed import AnyLearner
from learner.recipe import Recipe
from simulators.experiments.stream.figures import Said, Truth
from simulators.experiments.stream.recorded import Recording, columns_of, obtain
from simulators.experiments.stream.variant import learn_all
from simulators.replay import ReplaySettings
from stream.command.doctor import versions
from stream.settings import load_settings

_FIGURES = ("auc", "rank_uauc", "auc_users_below_10", "auc_items_below_10")


def run(make: Callable[[Recipe], AnyLearner], recipe: Recipe, recording: Recording) -> tuple[Said, float]:
    """Learn a recording from its beginning; returns what was said of each sample before, and samples/s."""
    learner = make(recipe)
    learner.warm_up()
    found = learn_all(learner, recording)
    del learner
    # Its tables are some GB of addresses, of which a process has only so many.
    gc.collect()
    return found


def results(options: argparse.Namespace, recording: Recording, truth: Truth) -> Iterator[dict[str, Any]]:
    """Of one process, then of groups, as they come."""
    said, rate = run(Learner, recording.settings.recipe, recording)
    alone = figures_of(truth, said)
    yield result("1 process", [alone], None, [rate]) | {"processes": 1, "leader_bytes_per_sample": 0.0}
    for size in options.processes:
        if size == 1:
            continue
        with group(size) as (wire, _):
            for exchange in options.exchange:
                own = recording.settings.recipe
                learning = msgspec.structs.replace(own.learner, exchange_samples=exchange)
                recipe, before = msgspec.structs.replace(own, learner=learning), wire.num_bytes
                said, rate = run(lambda of: GroupLearner(of, wire), recipe, recording)
                found = result(f"{size} processes, {exchange}", [figures_of(truth, said)], alone, [rate])
                # The leader's: the others send as much of what is shared as it does, and their answers.
                sent = (wire.num_bytes - before) / len(said.predictions_T)
                yield found | {"processes": size, "exchange": exchange, "leader_bytes_per_sample": round(sent, 1)}


def main(arguments: list[str]) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="coldstream bench processes", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="rows replayed")
    parser.add_argument("--processes", type=int, nargs="+", default=[2], help="of the groups; one is always measured")
    parser.add_argument("--exchange", type=int, nargs="+", default=[256, 1024, 4096], help="samples between exchanges")
    parser.add_argument("--replicates", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--recorded", type=Path, metavar="DIR", help="where recordings are kept, and found again")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    console, found = Console(stderr=True), []
    torch.set_num_threads(1)
    log = chosen_log(options, options.events)
    settings = load_settings(environment={}, overrides=options.set, defaults=log.settings)
    with ExitStack() as stack:
        folder = options.recorded or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        how = ReplaySettings(num_rows=options.events)
        recording = obtain(settings, log, how, folder, lambda said: console.print(said, highlight=False))
        truth = Truth(columns_of(recording), options.replicates)
        for one in results(options, recording, truth):
            found.append(one)
            figures = ", ".join(f"{name} {one[name]:.4f}" for name in _FIGURES)
            sent = one.get("leader_bytes_per_sample", 0.0)
            told = f"{one['name']}: {figures}, {sent:,} bytes/sample, {one['samples_per_s']:,} samples/s"
            console.print(told, highlight=False, soft_wrap=True)
    if options.json:
        report = {"runs": found, "impressions": len(truth), "data": log.source, "cores": os.cpu_count()}
        print(msgspec.json.encode(report | {"versions": versions()}).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
