"""A test over several seeds, each with a world, a Redis and pipelines of its own."""

from collections.abc import Callable, Iterator, Sequence

import msgspec
import redis

from simulators.abtest.arm import Arm
from simulators.abtest.report import Run
from simulators.abtest.run import Trial, TrialSettings
from simulators.abtest.tally import Tally
from simulators.abtest.verdict import Verdict, verdict_of
from simulators.world.parameters import Parameters
from state_store.embedded.redis import EmbeddedRedis
from stream.settings import Settings

Told = Callable[[int, int, Verdict | None], None]
"""Is told seed, day of the test (0 and less: before it), and what can be said by then."""


def run_seeds(
    parameters: Parameters, arms: tuple[Arm, Arm], how: TrialSettings, seeds: Sequence[int], told: Told
) -> Iterator[Run]:
    """Run after run, as they are done.

    Args:
        parameters: of the worlds.
        arms: the first, and what is compared with it.
        how: how; the seed is replaced.
        seeds: of the worlds; the learners have them, too.
        told: progress.
    """
    for seed in seeds:
        by_day: list[Verdict] = []

        def day_over(day: int, tally: Tally, seed: int = seed, by_day: list[Verdict] = by_day) -> None:
            if day > 0:
                by_day.append(verdict_of(tally, how.cap))
            told(seed, day, by_day[-1] if by_day else None)

        of_seed = _with_seed(arms[0], seed), _with_seed(arms[1], seed)
        with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
            Trial(parameters, of_seed, msgspec.structs.replace(how, seed=seed), client).run(day_over)
        yield Run(seed, by_day)


def _with_seed(arm: Arm, seed: int) -> Arm:
    settings: Settings = arm.settings
    learner = msgspec.structs.replace(settings.learner, seed=seed)
    return msgspec.structs.replace(arm, settings=msgspec.structs.replace(settings, learner=learner))
