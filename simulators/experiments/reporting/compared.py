"""Each variant of each model against its base, on the same test samples, over seeds."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec
import numpy as np

from simulators.experiments.offline.results import Results, RunResult
from simulators.experiments.offline.search import Plan, found, same_seeds
from simulators.experiments.offline.settings import HyperParameters
from simulators.experiments.ratings import Ratings
from simulators.experiments.reporting.cohorts import cohorts_of
from simulators.experiments.split import Split, random_split
from simulators.experiments.statistics.bootstrap import Interval, UserBootstrap, interval
from simulators.experiments.statistics.delong import Comparison, compare

NUM_REPLICATES = 400


class OfCohort(msgspec.Struct, frozen=True):
    """AUC on a part of the test samples, mean over seeds."""

    name: str
    samples: int
    """Mean over seeds."""
    base_auc: float
    auc: float
    difference: Interval


class Compared(msgspec.Struct, frozen=True):
    """One variant beside its base; figures are means over seeds."""

    model: str
    variant: str
    seeds: list[int]
    base_hyper: HyperParameters
    hyper: HyperParameters
    base_auc: float
    auc: float
    difference: Interval
    """Paired bootstrap over users, the same draws for every seed."""
    uauc_difference: Interval
    log_loss_difference: float
    by_seed: list[Comparison]
    """DeLong's test."""
    cohorts: list[OfCohort]


class Judge:
    """Compares runs by what they predicted for the test part.

    Args:
        ratings: the samples.
        results: where runs are kept.
        share: of the log's samples.
        num_replicates: of the bootstrap.
    """

    def __init__(self, ratings: Ratings, results: Results, share: float, num_replicates: int = NUM_REPLICATES) -> None:
        self._ratings, self._results, self._share = ratings, results, share
        self._bootstrap = UserBootstrap(len(ratings.users.ids_E), num_replicates)
        self._splits: dict[int, _Test] = {}
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def compared(self, base: Sequence[RunResult], variant: Sequence[RunResult]) -> Compared | None:
        """The variant beside its base at the seeds that both have; None if there is none."""
        pairs = same_seeds(base, variant)
        if not pairs:
            return None
        first, second = pairs[0]
        whole, of_users = (self._difference(pairs, name) for name in ("auc", "user_auc"))
        return Compared(
            second.run.model,
            second.run.variant + "".join(f", {name}={value}" for name, value in second.run.options.items()),
            [result.run.seed for result, _ in pairs],
            first.run.hyper,
            second.run.hyper,
            _mean(result.at_best.test_auc for result, _ in pairs),
            _mean(result.at_best.test_auc for _, result in pairs),
            interval(whole),
            interval(of_users),
            _mean(b.at_best.test_log_loss - a.at_best.test_log_loss for a, b in pairs),
            [self._delong(a, b) for a, b in pairs],
            list(self._by_cohort(pairs)),
        )

    def _test(self, seed: int) -> "_Test":
        if seed not in self._splits:
            self._splits[seed] = _Test(self._ratings, random_split(len(self._ratings), seed, share=self._share))
        return self._splits[seed]

    def _delong(self, base: RunResult, variant: RunResult) -> Comparison:
        labels_N = self._test(base.run.seed).labels_N
        return compare(labels_N, *(self._results.predictions(result.run) for result in (base, variant)))

    def _replicates(self, result: RunResult, figure: str, cohort: str = "") -> np.ndarray:
        key = result.run.name, figure + cohort
        if key not in self._known:
            test = self._test(result.run.seed)
            chosen_N = test.cohorts[cohort] if cohort else np.ones(len(test.labels_N), np.bool_)
            predictions_N = self._results.predictions(result.run)
            of = self._bootstrap.auc if figure == "auc" else self._bootstrap.user_auc
            self._known[key] = of(test.labels_N[chosen_N], predictions_N[chosen_N], test.users_N[chosen_N])
        return self._known[key]

    def _difference(self, pairs: Sequence[tuple[RunResult, RunResult]], figure: str, cohort: str = "") -> np.ndarray:
        found_SR = [self._replicates(b, figure, cohort) - self._replicates(a, figure, cohort) for a, b in pairs]
        mean_R: np.ndarray = np.mean(found_SR, axis=0)
        return mean_R

    def _by_cohort(self, pairs: Sequence[tuple[RunResult, RunResult]]) -> Iterator[OfCohort]:
        for name in self._test(pairs[0][0].run.seed).cohorts:
            sizes = [int(self._test(base.run.seed).cohorts[name].sum()) for base, _ in pairs]
            base, auc = (_mean(float(self._replicates(pair[k], "auc", name)[0]) for pair in pairs) for k in (0, 1))
            # A cohort without a label of either kind has no AUC.
            if np.isfinite(base) and np.isfinite(auc):
                difference = interval(self._difference(pairs, "auc", name))
                yield OfCohort(name, round(np.mean(sizes)), base, auc, difference)


class _Test:
    """The test part of one seed's split."""

    def __init__(self, ratings: Ratings, split: Split) -> None:
        self._ratings, self._split = ratings, split
        self.labels_N = ratings.labels_N[split.test_N]
        self.users_N = ratings.users_N[split.test_N]

    @cached_property
    def cohorts(self) -> dict[str, np.ndarray]:
        """Which samples each has."""
        return dict(cohorts_of(self._ratings, self._split))


def _mean(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


def comparisons(plan: Plan, results: Results, judge: Judge) -> Iterator[Compared]:
    """Every variant of every model that has its runs."""
    for model in plan.models:
        base = found(plan, results, model, "base")
        for variant in plan.variants:
            if variant != "base":
                compared = judge.compared(base, found(plan, results, model, variant))
                if compared is not None:
                    yield compared
