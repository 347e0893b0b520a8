"""How first impressions of new items fare: figures with replicates over users, and differences between arms."""

from collections.abc import Sequence

import numpy as np

from simulators.experiments.new_items.run import NewItems, NewItemsResult
from simulators.experiments.statistics.bootstrap import Interval, interval

LIMITS = (1, 2, 5, 10, 20, 50)
"""Of an item's impressions, how many from the first on."""
WITHHELD, LATE = "withheld", "late"
KINDS = WITHHELD, LATE
AUC, SERVED_AUC, LOG_LOSS, SERVED_LOG_LOSS = "AUC", "AUC as served", "log-loss", "log-loss as served"
FIGURES = AUC, SERVED_AUC, LOG_LOSS, SERVED_LOG_LOSS


class NewItemsJudge:
    """Figures, mean over seeds.

    Args:
        experiment: whose they are.
        results: of it.
    """

    def __init__(self, experiment: NewItems, results: Sequence[NewItemsResult]) -> None:
        self._experiment = experiment
        self._results = {(each.model, each.arm, each.seed): each for each in results}
        self._known: dict[tuple[str, str, int, str, str, int], np.ndarray] = {}

    def seeds(self, model: str, *arms: str) -> list[int]:
        """Those that all of some arms have."""
        of = [{seed for m, name, seed in self._results if (m, name) == (model, arm)} for arm in arms]
        return sorted(set.intersection(*of))

    def sizes(self, model: str, arm: str, kind: str, limit: int) -> float:
        """Impressions, mean over seeds."""
        return float(np.mean([self._chosen(seed, kind, limit).sum() for seed in self.seeds(model, arm)]))

    def figure(self, model: str, arm: str, kind: str, name: str, limit: int) -> float:
        """Mean over seeds."""
        found = [self._replicates(model, arm, s, kind, name, limit)[0] for s in self.seeds(model, arm)]
        return float(np.mean(found))

    def difference(self, model: str, arms: tuple[str, str], kind: str, name: str, limit: int) -> Interval:
        """Of the first arm less the second, mean over the seeds that both have."""
        first, second = arms
        pairs = [
            self._replicates(model, first, seed, kind, name, limit)
            - self._replicates(model, second, seed, kind, name, limit)
            for seed in self.seeds(model, *arms)
        ]
        return interval(np.mean(pairs, axis=0))

    def _chosen(self, seed: int, kind: str, limit: int) -> np.ndarray:
        numbers_N, is_drawn_N = self._experiment.chosen(seed)
        chosen_N: np.ndarray = (numbers_N >= 0) & (numbers_N < limit) & (is_drawn_N == (kind == WITHHELD))
        return chosen_N

    def _replicates(self, model: str, arm: str, seed: int, kind: str, name: str, limit: int) -> np.ndarray:
        key = model, arm, seed, kind, name, limit
        if key not in self._known:
            truth, scores = self._experiment.truth, self._experiment.scores(self._results[model, arm, seed])
            said_N = scores.predictions_N if name in (AUC, LOG_LOSS) else scores.served_N
            chosen_N = self._chosen(seed, kind, limit) & np.isfinite(said_N)
            if name in (AUC, SERVED_AUC):
                found_R = truth.auc(said_N, chosen_N)
            else:
                found_R = truth.log_loss(np.where(chosen_N, said_N, 0.5), chosen_N)
            self._known[key] = found_R
        return self._known[key]
