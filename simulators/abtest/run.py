"""A test in one process: a world, two pipelines, users split by a salted hash."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
import redis
from msgspec import Meta
from xxhash import xxh3_64_intdigest

from learner.config import Seed
from simulators.abtest.arm import Arm
from simulators.abtest.feed import Feed
from simulators.abtest.pipeline import Pipeline
from simulators.abtest.ranking import Ranker
from simulators.abtest.tally import Period, Tally
from simulators.world.items import NONE
from simulators.world.parameters import Candidates, Parameters
from simulators.world.rows import Rows, feedback_of
from simulators.world.world import Visits, World

_DAY_MS = 86_400_000
OfferedCandidates = Candidates(popular=0.6, new=0.1)
Told = Callable[[int, Tally], None]
"""Is told each day that is over, from 1, and what everybody has done so far."""


class TrialSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How two arms are compared."""

    days: Annotated[int, Meta(ge=1, le=3650)] = 5
    """Of the test."""
    days_before: Annotated[int, Meta(ge=0, le=3650)] = 3
    """In which the first arm ranks for everybody, and both learn from everybody: so both begin alike."""
    candidates: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Drawn for a visit; repetitions are left out."""
    offered: Candidates = OfferedCandidates
    """Where they come from."""
    learns_from: Literal["own", "all"] = "own"
    """Whose impressions an arm learns from in the test: its own users', or everybody's."""
    cap: Annotated[float, Meta(gt=0, le=1)] = 0.99
    """No user's figure counts for more than this quantile of its group's; 1: as it is. Tails are so long that means are
    else those of a few users, and intervals of them are wrong."""
    seed: Seed = 7
    """Of the world, of the split, of the noise that is added."""


class Trial:
    """One run of a test.

    Args:
        parameters: of the world.
        arms: the first, and what is compared with it.
        how: how they are compared.
        client: an empty Redis.
    """

    def __init__(self, parameters: Parameters, arms: tuple[Arm, Arm], how: TrialSettings, client: redis.Redis) -> None:
        self._how, self._arms = how, arms
        self.world, self.tally = World(parameters, how.seed), Tally(parameters.outcomes)
        self.pipelines = [Pipeline(arm.settings, client) for arm in arms]
        noise = [np.random.default_rng([how.seed, n]) for n in range(len(arms))]
        self._rankers = [
            Ranker(self.world, pipeline, arm.how.noise, rng)
            for pipeline, arm, rng in zip(self.pipelines, arms, noise, strict=True)
        ]
        self._feeds = [Feed(feedback_of(parameters)) for _ in arms]
        self._rows = Rows(parameters)
        self._salt = f"coldstream-{how.seed}"

    def run(self, told: Told = lambda day, tally: None) -> Tally:
        """Run it to its end; returns what each user did."""
        begin_ms = self.world.now_ms
        test_ms = begin_ms + self._how.days_before * _DAY_MS
        end_ms, day = test_ms + self._how.days * _DAY_MS, 0
        while self.world.now_ms < end_ms:
            self._step(Period.TEST if self.world.now_ms >= test_ms else Period.BEFORE)
            if (self.world.now_ms - begin_ms) // _DAY_MS > day:
                day += 1
                told(day - self._how.days_before, self.tally)
        return self.tally

    def _step(self, period: Period) -> None:
        visits = self.world.step()
        users_V = self.world.users.serial_U[visits.slot_V]
        arms_V = self._split(users_V) if period is Period.TEST else np.zeros(len(visits), np.int8)
        if period is Period.TEST:
            self.tally.assign(users_V, arms_V)
        shown = self.world.show(visits, self._lists(visits, arms_V))
        self.tally.update(shown, period)
        rows = self._rows.frame(shown)
        to_all = period is Period.BEFORE or self._how.learns_from == "all"
        arm_N = self.tally.arm_U[rows["user_id"].str.slice(1).cast(int).to_numpy()]
        for n, (pipeline, feed) in enumerate(zip(self.pipelines, self._feeds, strict=True)):
            feed.add(rows if to_all else rows.filter(arm_N == n))
            pipeline.ingest(feed.until(self.world.now_ms))
            pipeline.learn()
            if period is Period.BEFORE or not self._arms[n].how.frozen:
                pipeline.publish()

    def _lists(self, visits: Visits, arms_V: np.ndarray) -> np.ndarray:
        size = self.world.parameters.lists.size
        slots_VC = self.world.candidates(len(visits), self._how.candidates, self._how.offered)
        lists_VL = np.full((len(visits), size), NONE)
        for n, ranker in enumerate(self._rankers):
            of_arm = np.flatnonzero(arms_V == n)
            if len(of_arm):
                ranked_WL = ranker.rank(visits.take(of_arm), slots_VC[of_arm], size)
                lists_VL[of_arm, : ranked_WL.shape[1]] = ranked_WL
        return lists_VL

    def _split(self, users_V: np.ndarray) -> np.ndarray:
        users_S, of_user_V = np.unique(users_V, return_inverse=True)
        arms_V: np.ndarray = split(users_S.tolist(), self._salt)[of_user_V]
        return arms_V


def split(users: Sequence[int], salt: str) -> np.ndarray:
    """Arms of users, 0 or 1: the same for a user whenever it is asked, another with another salt."""
    return np.array([xxh3_64_intdigest(f"{salt}:u{user}".encode()) & 1 for user in users], np.int8)
