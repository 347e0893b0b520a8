"""Variants beside each other on the same impressions: by figure, by cohort, over seeds."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from simulators.experiments.statistics.bootstrap import Interval, interval
from simulators.experiments.stream.cohorts import ALL, COLD, cohorts_of
from simulators.experiments.stream.figures import Scores
from simulators.experiments.stream.run import StreamExperiment, StreamResult
from simulators.experiments.stream.variants import Contrast, Part

AUC, UAUC, RANK_UAUC, LOG_LOSS, SERVED_AUC = "auc", "uauc", "rank_uauc", "log_loss", "served_auc"
FIGURES = (AUC, UAUC, RANK_UAUC, LOG_LOSS, SERVED_AUC)
_LEAST = 30
"""Users, positives and negatives that a cohort needs: a bootstrap over fewer says little."""


class Compared(msgspec.Struct, frozen=True):
    """A variant less another one, mean over the seeds that both have."""

    part: Part
    variant: str
    against: str
    seeds: list[int]
    """Empty where neither has seeds."""
    differences: dict[str, dict[str, Interval]]
    """Cohort -> figure -> difference; only where there is one."""
    by_seed: dict[str, list[float]]
    """Cohort (all, and the cold ones) -> difference of the AUC at each seed."""


class Judge:
    """Compares what was kept.

    Args:
        experiment: whose it is.
        results: of it.
        cohorts: name -> which impressions, all of them first; by default by earlier impressions of user and item.
    """

    def __init__(
        self,
        experiment: StreamExperiment,
        results: Sequence[StreamResult],
        cohorts: Iterable[tuple[str, np.ndarray]] | None = None,
    ) -> None:
        self._experiment = experiment
        self._truth = experiment.truth
        self._results: dict[str, dict[int | None, StreamResult]] = {}
        for result in results:
            self._results.setdefault(result.variant, {})[result.seed] = result
        every = cohorts_of(self._truth.user_counts_N, self._truth.item_counts_N) if cohorts is None else cohorts
        self.cohorts = {name: chosen_N for name, chosen_N in every if name == ALL or self._is_enough(chosen_N)}
        self._known: dict[tuple[str, int | None], dict[str, dict[str, np.ndarray]]] = {}

    @property
    def names(self) -> list[str]:
        """Variants and rivals that there are results of."""
        return list(self._results)

    def seeds(self, *names: str) -> list[int | None]:
        """Those that all of some variants have; None for a rival, which goes with each."""
        of = [set(self._results.get(name, {})) for name in names]
        with_seeds = [seeds for seeds in of if None not in seeds]
        if not all(of):
            return []
        return sorted(set.intersection(*with_seeds)) if with_seeds else [None]  # type: ignore[type-var]

    def figures(self, name: str) -> dict[str, dict[str, float]]:
        """Cohort, of those that are large enough -> figure -> value, mean over seeds."""
        every = [self._replicates(name, seed) for seed in self.seeds(name)]
        return {
            cohort: {figure: float(np.mean([each[cohort][figure][0] for each in every])) for figure in FIGURES}
            for cohort in self.cohorts
        }

    def compared(self, contrast: Contrast) -> Compared | None:
        """Two variants; None if they have no seed in common."""
        seeds = self.seeds(contrast.variant, contrast.against)
        if not seeds:
            return None
        pairs = [tuple(self._replicates(name, seed) for name in (contrast.variant, contrast.against)) for seed in seeds]
        differences: dict[str, dict[str, Interval]] = {}
        for cohort in self.cohorts:
            of_figures = {
                figure: interval(np.mean([a[cohort][figure] - b[cohort][figure] for a, b in pairs], axis=0))
                for figure in FIGURES
            }
            differences[cohort] = {
                figure: found
                for figure, found in of_figures.items()
                if np.isfinite([found.value, found.low, found.high]).all()
            }
        by_seed = {
            cohort: [float(a[cohort][AUC][0] - b[cohort][AUC][0]) for a, b in pairs]
            for cohort in (ALL, *COLD)
            if AUC in differences.get(cohort, {})
        }
        plain = [seed for seed in seeds if seed is not None]
        return Compared(contrast.part, contrast.variant, contrast.against, plain, differences, by_seed)

    def _is_enough(self, chosen_N: np.ndarray) -> bool:
        labels = self._truth.labels_N[chosen_N]
        num_users = len(np.unique(self._truth.users_N[chosen_N]))
        return min(num_users, int(labels.sum()), int((~labels).sum())) >= _LEAST

    def _replicates(self, name: str, seed: int | None) -> dict[str, dict[str, np.ndarray]]:
        """Cohort -> figure -> replicates; shape (1 + R,)."""
        of = self._results[name]
        key = name, seed if seed in of else None
        if key not in self._known:
            scores = self._experiment.scores(of[key[1]])
            self._known[key] = {cohort: self._of_cohort(scores, chosen_N) for cohort, chosen_N in self.cohorts.items()}
        return self._known[key]

    def _of_cohort(self, scores: Scores, chosen_N: np.ndarray) -> dict[str, np.ndarray]:
        truth = self._truth
        return {
            AUC: truth.auc(scores.predictions_N, chosen_N),
            UAUC: truth.user_auc(scores.predictions_N, chosen_N),
            RANK_UAUC: truth.user_auc(scores.ranks_N, chosen_N),
            LOG_LOSS: truth.log_loss(scores.predictions_N, chosen_N),
            SERVED_AUC: truth.auc(scores.served_N, chosen_N),
        }
