"""A table's runs: a search on the validation part at the first seed, then the other seeds with what is best.

Every variant of every model has the same grid, and so the same budget; the test part chooses nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import msgspec
import torch

from learner.adaf2m2.device.choice import DeviceError, chosen_device
from learner.config import Device
from simulators.experiments.offline.results import Results, RunResult
from simulators.experiments.offline.settings import ChoiceError, HyperParameters, RunSettings, Variant, relevant
from simulators.experiments.offline.training import Progress, train
from simulators.experiments.ratings import Ratings


class Plan(msgspec.Struct, frozen=True):
    """What is to be found out."""

    models: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    """The search is at the first one."""
    grid: tuple[HyperParameters, ...]
    common: RunSettings
    """What all runs share: epochs, share of the log, options."""

    @property
    def num_runs(self) -> int:
        """How many runs it takes."""
        return len(self.models) * len(self.variants) * (len(self.grid) + len(self.seeds) - 1)

    def run(self, model: str, variant: Variant, seed: int, hyper: HyperParameters) -> RunSettings:
        """One of its runs."""
        options = relevant(self.common.options, variant)
        return msgspec.structs.replace(
            self.common, model=model, variant=variant, seed=seed, hyper=hyper, options=options
        )

    def searched(self, model: str, variant: Variant) -> list[RunSettings]:
        """Runs of the search."""
        return [self.run(model, variant, self.seeds[0], hyper) for hyper in self.grid]


def found(plan: Plan, results: Results, model: str, variant: Variant) -> list[RunResult]:
    """Results of a variant by seed, with the hyper-parameters that the search chose; those that are there."""
    of_search = [results.find(run) for run in plan.searched(model, variant)]
    done = [result for result in of_search if result is not None]
    if len(done) < len(of_search):
        return []
    best = max(done, key=lambda result: result.at_best.valid_auc).run.hyper
    of_seeds = [results.find(plan.run(model, variant, seed, best)) for seed in plan.seeds]
    return [result for result in of_seeds if result is not None]


def missing(plan: Plan, results: Results) -> Iterator[RunSettings]:
    """Runs that are still to be done, as far as can be told: the other seeds' follow from the search.

    The caller keeps each one's result before it asks for the next. The variants of one model come one after the other,
    so that a table fills line by line.
    """
    for model in plan.models:
        for variant in plan.variants:
            for run in plan.searched(model, variant):
                if results.find(run) is None:
                    yield run
            best = found(plan, results, model, variant)[0].run.hyper
            for seed in plan.seeds[1:]:
                run = plan.run(model, variant, seed, best)
                if results.find(run) is None:
                    yield run


def num_done(plan: Plan, results: Results) -> int:
    """How many of the plan's runs are there."""
    count = 0
    for model in plan.models:
        for variant in plan.variants:
            count += sum(results.find(run) is not None for run in plan.searched(model, variant))
            count += max(0, len(found(plan, results, model, variant)) - 1)
    return count


def carry_out(
    plan: Plan,
    results: Results,
    ratings: Ratings,
    device: torch.device,
    started: Callable[[RunSettings], Progress],
) -> Iterator[RunResult]:
    """Do what is missing, run by run; each is kept before it is told of.

    Args:
        plan: what is to be done.
        results: where it is kept.
        ratings: the samples.
        device: where it is trained.
        started: is told of each run, and says whom to tell of its progress.
    """
    for run in missing(plan, results):
        result, predictions_N = train(run, ratings, device, started(run))
        results.keep(result, predictions_N)
        yield result


def device_of(name: str) -> torch.device:
    """`auto` is a GPU if there is one.

    Raises:
        ChoiceError: there is no such device here.
    """
    devices: tuple[Device, ...] = get_args(Device)
    found = next((device for device in devices if device == name), None)
    if found is None:
        raise ChoiceError(f"--device {name}: expected {', '.join(devices)}")
    try:
        return chosen_device(found, said="--device")
    except DeviceError as exc:
        raise ChoiceError(str(exc)) from exc


def same_seeds(first: Sequence[RunResult], second: Sequence[RunResult]) -> list[tuple[RunResult, RunResult]]:
    """Pairs of results of two variants at the same seed."""
    by_seed = {result.run.seed: result for result in second}
    return [(result, by_seed[result.run.seed]) for result in first if result.run.seed in by_seed]
