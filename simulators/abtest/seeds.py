"""A test over several seeds, each with a world and pipelines of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec

from simulators.abtest.arm import Arm
from simulators.abtest.local import in_process
from simulators.abtest.reporting.report import Run
from simulators.abtest.run import Opened, Trial, TrialSettings
from simulators.abtest.tally import Tally
from simulators.abtest.verdict import Verdict, verdict_of
from simulators.world.parameters import Parameters
from simulators.world.world import World
from stream.settings import Settings

Told = Callable[[int, int, Verdict | None], None]
"""Is told seed, day of the test (0 and less: before it), and what can be said by then."""

Opens = Callable[[World, Sequence[Arm], TrialSettings], AbstractContextManager[Opened]]


def run_seeds(
    parameters: Parameters,
    arms: tuple[Arm, Arm],
    how: TrialSettings,
    seeds: Sequence[int],
    told: Told,
    opens: Opens = in_process,
) -> Iterator[Run]:
    """Run after run, as they are done.

    Args:
        parameters: of the worlds.
        arms: the first, and what is compared with it.
        how: how; the seed is replaced.
        seeds: of the worlds; the learners have them, too.
        told: progress.
        opens: the arms' pipelines.
    """
    for seed in seeds:
        by_day: list[Verdict] = []

        def day_over(day: int, tally: Tally, seed: int = seed, by_day: list[Verdict] = by_day) -> None:
            if day > 0:
                by_day.append(verdict_of(tally, how.cap))
            told(seed, day, by_day[-1] if by_day else None)

        of_seed = [_with_seed(arm, seed) for arm in arms]
        world, how_now = World(parameters, seed), msgspec.structs.replace(how, seed=seed)
        with opens(world, of_seed, how_now) as opened:
            Trial(world, of_seed, how_now, opened).run(day_over)
        yield Run(seed, by_day)


def _with_seed(arm: Arm, seed: int) -> Arm:
    settings: Settings = arm.settings
    learner = msgspec.structs.replace(settings.learner, seed=seed)
    return msgspec.structs.replace(arm, settings=msgspec.structs.replace(settings, learner=learner))
