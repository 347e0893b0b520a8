"""Arms in this process: no broker, no HTTP, no clock."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import polars as pl
import redis

from simulators.abtest.arm import Arm
from simulators.abtest.feed import Feed
from simulators.abtest.pipeline import Pipeline
from simulators.abtest.ranking import Ranker
from simulators.abtest.run import Opened, TrialSettings
from simulators.world.items import NONE
from simulators.world.rows import feedback_of
from simulators.world.world import Visits, World
from state_store.embedded.redis import EmbeddedRedis


class LocalSide:
    """The product's stages, called one after the other.

    Args:
        world: who asks, and what there is.
        arm: whose settings they have.
        how: of the test.
        client: Redis; the arm's keys begin with its prefix.
        by_visit: score each visit's candidates by themselves, as a scorer is asked. Slower, and the same but for a deep
            part's last bits: how a matrix is multiplied depends on how many rows it has.
    """

    def __init__(
        self, world: World, arm: Arm, how: TrialSettings, client: redis.Redis, *, by_visit: bool = False
    ) -> None:
        self.pipeline = Pipeline(arm.settings, client)
        self.ranker = Ranker(world, self.pipeline)
        self._feed = Feed(feedback_of(world.parameters), how.slice_s * 1000)
        self._by_visit = by_visit

    def scores(self, visits: Visits, slots_VC: np.ndarray) -> np.ndarray:
        """Rank scores of the candidates that there are, visit by visit."""
        place_M, column_M = np.nonzero(slots_VC != NONE)
        pairs = visits.slot_V[place_M], slots_VC[place_M, column_M], visits.ts_V[place_M]
        if not self._by_visit:
            return self.ranker.scores(*pairs)
        ends = np.cumsum((slots_VC != NONE).sum(axis=1))[:-1]
        by_visit = zip(*(np.split(of, ends) for of in pairs), strict=True)
        return np.concatenate([self.ranker.scores(*of) for of in by_visit])

    def learn(self, rows: pl.DataFrame, now_ms: int, *, publishes: bool) -> None:
        """Take in what was shown, apply what has happened by now, and learn from what has become of it."""
        self._feed.add(rows)
        self.pipeline.ingest(self._feed.until(now_ms))
        self.pipeline.learn()
        if publishes:
            self.pipeline.publish()


@contextmanager
def in_process(world: World, arms: Sequence[Arm], how: TrialSettings, *, by_visit: bool = False) -> Iterator[Opened]:
    """Both arms, on a Redis of their own; see `LocalSide`."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        first, second = (LocalSide(world, arm, how, client, by_visit=by_visit) for arm in arms)
        yield Opened((first, second))
