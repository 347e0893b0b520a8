"""A test over several seeds, each with a world and pipelines of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec

from simulators.abtest.arm import Arm
from simulators.abtest.local import in_process
from simulators.abtest.reporting.kept import KeptRuns, made_of
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
    kept: tuple[KeptRuns, str] | None = None,
) -> Iterator[Run]:
    """Run after run, as they are done.

    Args:
        parameters: of the worlds.
        arms: the first, and what is compared with it.
        how: how; the seed is replaced.
        seeds: of the worlds; the learners have them, too.
        told: progress.
        opens: the arms' pipelines.
        kept: where runs are kept, and what the worlds are called there; those that are there are not run again.

    Raises:
        KeptRunError: a run that is there is of another test.
    """
    for seed in seeds:
        of_seed, how_now = [_with_seed(arm, seed) for arm in arms], msgspec.structs.replace(how, seed=seed)
        made, run = made_of(parameters, of_seed, how_now), None
        if kept is not None:
            run = kept[0].find(f"{kept[1]}seed-{seed}", made)
        if run is not None:
            for day, verdict in enumerate(run.by_day, start=1):
                told(seed, day, verdict)
        else:
            by_day: list[Verdict] = []

            def day_over(day: int, tally: Tally, seed: int = seed, by_day: list[Verdict] = by_day) -> None:
                if day > 0:
                    by_day.append(verdict_of(tally, how.cap))
                told(seed, day, by_day[-1] if by_day else None)

            world = World(parameters, seed)
            with opens(world, of_seed, how_now) as opened:
                Trial(world, of_seed, how_now, opened).run(day_over)
            run = Run(seed, by_day)
            if kept is not None:
                kept[0].keep(f"{kept[1]}seed-{seed}", made, run)
        yield run


def _with_seed(arm: Arm, seed: int) -> Arm:
    settings: Settings = arm.settings
    learner = msgspec.structs.replace(settings.learner, seed=seed)
    return msgspec.structs.replace(arm, settings=msgspec.structs.replace(settings, learner=learner))
