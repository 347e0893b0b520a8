"""One run of a test: a world, two pipelines, users split by a salted hash."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta
from xxhash import xxh3_64_intdigest

from learner.config import Seed
from simulators.abtest.arm import Arm
from simulators.abtest.choice import Choice, best, reach
from simulators.abtest.paired import Pairs
from simulators.abtest.retrieved import Retrieval
from simulators.abtest.tally import Period, Tally
from simulators.world.items import NONE
from simulators.world.parameters import Candidates, Share
from simulators.world.rows import Rows
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
    retrieved: Share = 0.0
    """Share of the candidates that a two-tower model finds for each user instead (`simulators/abtest/retrieved.py`)."""
    learns_from: Literal["own", "all"] = "own"
    """Whose impressions an arm learns from in the test: its own users', or everybody's."""
    paired: bool = False
    """In the test, both arms rank every visit, and one's list is shown: how far their lists reach is then compared
    visit by visit (`simulators/abtest/paired.py`). Each arm must know everybody: `learns_from` is all."""
    cap: Annotated[float, Meta(gt=0, le=1)] = 0.99
    """No user's figure counts for more than this quantile of its group's; 1: as it is. Tails are so long that means are
    else those of a few users, and intervals of them are wrong."""
    slice_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """Records of one topic are applied together that are no farther apart, seconds of event time."""
    strict: bool = True
    """Behind a broker: after each round the world waits until what could be learned is learned, and served."""
    seed: Seed = 7
    """Of the world, of the split, of the noise that is added."""

    def __post_init__(self) -> None:
        if self.paired and self.learns_from != "all":
            raise ValueError(
                "paired: each arm ranks the other's users, too, and must have learned from them; let learns_from be all"
            )


class Side(Protocol):
    """An arm's pipeline, as a test sees it."""

    def scores(self, visits: Visits, slots_VC: np.ndarray) -> np.ndarray:
        """Rank scores of the candidates that there are, visit by visit, (M,); zeros before there are weights.

        Args:
            visits: who asks.
            slots_VC: candidates, `NONE` where there is none.
        """

    def learn(self, rows: pl.DataFrame, now_ms: int, *, publishes: bool) -> None:
        """Take in what was shown, and learn from what has happened.

        Args:
            rows: of the world's log.
            now_ms: event time; what happens later is held back.
            publishes: whether what is learned reaches the scorer.
        """


Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]


class Opened(NamedTuple):
    """Both arms, ready."""

    sides: tuple[Side, Side]
    each: Each = map
    """Does something for each: one after the other, or side by side."""


class Trial:
    """One run of a test.

    Args:
        world: in which it takes place.
        arms: the first, and what is compared with it.
        how: how they are compared.
        opened: their pipelines.
    """

    def __init__(self, world: World, arms: Sequence[Arm], how: TrialSettings, opened: Opened) -> None:
        self._how, self._arms, self._opened = how, arms, opened
        self.world, self.tally = world, Tally(world.parameters.outcomes, Pairs() if how.paired else None)
        self._choices = [Choice(arm.how.noise, np.random.default_rng([how.seed, n])) for n, arm in enumerate(arms)]
        self._retrieval = Retrieval(world, how.retrieved, how.seed) if how.retrieved else None
        self._rows = Rows(world.parameters)
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
        slots_VC = self.world.candidates(len(visits), self._how.candidates, self._how.offered)
        if self._retrieval is not None:
            slots_VC = self._retrieval.among(visits, slots_VC)
        is_paired = self.tally.pairs is not None and period is Period.TEST
        lists_VL = (self.both if is_paired else self.lists)(visits, slots_VC, arms_V)
        self.tally.judge(users_V, reach(self.world, visits, slots_VC, lists_VL), period)
        shown = self.world.show(visits, lists_VL)
        self.tally.update(shown, period)
        if self._retrieval is not None:
            self._retrieval.learn(visits, lists_VL, shown.reactions.happened_NO[:, 0])
        rows = self._rows.frame(shown)
        to_all = period is Period.BEFORE or self._how.learns_from == "all"
        arm_N = self.tally.arm_U[rows["user_id"].str.slice(1).cast(int).to_numpy()]
        now_ms = self.world.now_ms

        def learn(n: int) -> None:
            publishes = period is Period.BEFORE or not self._arms[n].how.frozen
            self._opened.sides[n].learn(rows if to_all else rows.filter(arm_N == n), now_ms, publishes=publishes)

        list(self._opened.each(learn, range(len(self._arms))))

    def lists(self, visits: Visits, slots_VC: np.ndarray, arms_V: np.ndarray) -> np.ndarray:
        """What each visit is shown, (V, L) slots, best first.

        Args:
            visits: of the last step.
            slots_VC: candidates, `NONE` where there is none.
            arms_V: of the users.
        """
        size = self.world.parameters.lists.size
        lists_VL = np.full((len(visits), size), NONE)
        for n, (side, choice) in enumerate(zip(self._opened.sides, self._choices, strict=True)):
            of_arm = np.flatnonzero(arms_V == n)
            if len(of_arm):
                slots_WC = slots_VC[of_arm]
                ranked_WL = choice.lists(slots_WC, side.scores(visits.take(of_arm), slots_WC), size)
                lists_VL[of_arm, : ranked_WL.shape[1]] = ranked_WL
        return lists_VL

    def both(self, visits: Visits, slots_VC: np.ndarray, arms_V: np.ndarray) -> np.ndarray:
        """The same, where both arms rank every visit; notes what either would have shown."""
        sides = zip(self._opened.sides, self._choices, strict=True)
        scores_AM = [choice.judged(side.scores(visits, slots_VC)) for side, choice in sides]
        assert self.tally.pairs is not None
        self.tally.pairs.judge(self.world, visits, slots_VC, scores_AM)
        first_VL, second_VL = (best(slots_VC, scores_M, self.world.parameters.lists.size) for scores_M in scores_AM)
        return np.where(arms_V[:, None] == 0, first_VL, second_VL)

    def _split(self, users_V: np.ndarray) -> np.ndarray:
        users_S, of_user_V = np.unique(users_V, return_inverse=True)
        arms_V: np.ndarray = split(users_S.tolist(), self._salt)[of_user_V]
        return arms_V


def split(users: Sequence[int], salt: str) -> np.ndarray:
    """Arms of users, 0 or 1: the same for a user whenever it is asked, another with another salt."""
    return np.array([xxh3_64_intdigest(f"{salt}:u{user}".encode()) & 1 for user in users], np.int8)
