"""Weights of the fusion, round by round on logged outcomes, guarded.

The survey "RecSys 101 (3)" (2023), section "Fusion of several objectives" (in its text: duo mubiao ronghe), says of the
dynamic search of parameters, its second stage; here that becomes four rules:

* New parameters are made from those in force, by CEM or ES, on the feedback to them; the core is the reward.
* Use is periodic: after `reset_h` of event time the search begins anew, from the prior.
* Anomalies are looked for, and parameters change together or not at all: outcomes of which the reward under the weights
  in force, a task's share of positives or its mean prediction lie far off those of the rounds before, predictions that
  are no numbers, and too few lists, change nothing.
  Outcomes that stay far off for as many rounds as make a judgement are what is usual from then on.
* A step is bounded, and what it led to is tried on users who were not searched on: it comes into force only if it is
  better there, surely enough.

Legend: N impressions, T tasks, L lists.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from learner.fusion.config import FusionSettings
from learner.fusion.reward import Lists, Outcomes
from learner.fusion.score import normalised, terms_of
from learner.fusion.searches import SEARCHES, CrossEntropy, EvolutionStrategy

_HOUR_MS = 3_600_000
_REMEMBERED = 50
"""Rounds that say what is usual."""
_LEAST_CHANGE = 0.02
"""Share of a figure that it may always move by, as one standard deviation."""
_SPLIT = np.uint64(0x9E3779B97F4A7C15)


class Round(msgspec.Struct, frozen=True):
    """What one round came to."""

    weights: dict[str, float]
    """In force behind it, with a sum of 1."""
    adopted: bool
    said: str
    """Why."""
    reward: float
    """Mean reward of the weights that were in force, on all lists of the round."""
    gain: float = math.nan
    """By how much the weights that were found are better on users who were not searched on."""
    gain_error: float = math.nan
    """Standard error of that, paired by list."""
    num_lists: int = 0
    began_anew: bool = False


class FusionSearch:
    """Holds the weights in force, and looks for better ones.

    Args:
        settings: of the fusion.
        tasks: their names, in the order of the columns of outcomes.

    Raises:
        ValueError: settings name a task that there is not.
    """

    def __init__(self, settings: FusionSettings, tasks: Sequence[str]) -> None:
        settings.check(tasks)
        self._settings, self.tasks = settings, tuple(tasks)
        self._worth_T = np.array([settings.worth.get(task, 1.0) for task in tasks])
        self._prior_T = np.log(normalised(np.array([settings.prior.get(task, 1.0) for task in tasks])))
        self._log_weights_T = self._prior_T
        self._rng = np.random.default_rng(settings.seed)
        self._search = self._new_search()
        self._began_ts: int | None = None
        self._before: list[np.ndarray] = []
        """Figures of the rounds before, newest last."""
        self._num_anomalies = 0
        """In a row."""

    @property
    def weights(self) -> np.ndarray:
        """Those in force, shape (T,), with a sum of 1."""
        return normalised(np.exp(self._log_weights_T))

    def _new_search(self) -> CrossEntropy | EvolutionStrategy:
        return SEARCHES[self._settings.method](self._settings, self._prior_T)

    def round(self, outcomes: Outcomes) -> Round:
        """Search on one stretch of outcomes; later stretches in the order of event time.

        Args:
            outcomes: of N impressions, whose labels are final.
        """
        began_anew = self._maybe_begin_anew(outcomes)
        if not np.isfinite(outcomes.predictions_NT).all():
            return self._stays("predictions that are no numbers", math.nan, 0, began_anew)
        # By user, so that nobody is on both sides.
        shares_N = (outcomes.users_N.astype(np.uint64) * _SPLIT >> np.uint64(40)).astype(np.float64) / 2**24
        is_held_out_N = shares_N < self._settings.held_out
        searched, held_out = self._lists(outcomes.take(~is_held_out_N)), self._lists(outcomes.take(is_held_out_N))
        rewards_L = np.concatenate([_rewards(part, self._log_weights_T) for part in (searched, held_out)])
        reward = float(rewards_L.mean()) if len(rewards_L) else math.nan
        fewest = min(len(searched[0]), len(held_out[0]))
        if fewest < self._settings.least_lists:
            return self._stays(f"{fewest} lists with something to order", reward, len(rewards_L), began_anew)
        figures = np.array([reward, *outcomes.labels_NT.mean(0), *outcomes.predictions_NT.mean(0)])
        odd = self._odd_one(figures)
        if odd:
            self._num_anomalies += 1
            if self._num_anomalies == self._settings.least_rounds:
                # What comes again and again is what is usual now.
                self._before, self._num_anomalies = [], 0
            return self._stays(odd, reward, len(rewards_L), began_anew)
        self._before.append(figures)
        self._num_anomalies = 0
        found_T = self._searched(searched)
        differences_L = _rewards(held_out, found_T) - _rewards(held_out, self._log_weights_T)
        gain = float(differences_L.mean())
        error = float(differences_L.std(ddof=1) / math.sqrt(len(differences_L)))
        adopted = gain > 0 and gain >= self._settings.sureness * error
        if adopted:
            self._log_weights_T = found_T
        said = "better where it was not searched" if adopted else "not surely better where it was not searched"
        return Round(self._named(), adopted, said, reward, gain, error, len(rewards_L), began_anew)

    def _maybe_begin_anew(self, outcomes: Outcomes) -> bool:
        newest = int(outcomes.ts_N.max(initial=0))
        if self._began_ts is None:
            self._began_ts = newest
        if newest - self._began_ts < self._settings.reset_h * _HOUR_MS:
            return False
        self._search, self._began_ts = self._new_search(), newest
        return True

    def _lists(self, outcomes: Outcomes) -> tuple[Lists, np.ndarray]:
        """The lists, and what weights are of, of their impressions."""
        lists = Lists(outcomes.lists_N, outcomes.labels_NT @ self._worth_T, self._settings.depth)
        terms_NT = terms_of(outcomes.predictions_NT, self._settings.form, self._settings.offset)
        return lists, terms_NT[lists.chosen_N]

    def _searched(self, searched: tuple[Lists, np.ndarray]) -> np.ndarray:
        """Logarithms of the weights that the search comes to, no farther from those in force than a step."""
        for _ in range(self._settings.generations):
            self._search.generation(lambda tried_T: float(_rewards(searched, tried_T).mean()), self._rng)
        # Their scale decides nothing; so it is taken out before steps are measured.
        found_T = np.log(normalised(np.exp(self._search.mean_T - self._search.mean_T.max())))
        most = self._settings.max_step
        bounded_T: np.ndarray = np.clip(found_T, self._log_weights_T - most, self._log_weights_T + most)
        return bounded_T

    def _odd_one(self, figures: np.ndarray) -> str:
        """Which of a round's figures lies far off those of the rounds before; empty if none does."""
        if len(self._before) < self._settings.least_rounds:
            return ""
        before = np.array(self._before[-_REMEMBERED:])
        means = before.mean(0)
        usual = np.maximum(before.std(0), _LEAST_CHANGE * np.abs(means))
        far = np.flatnonzero(np.abs(figures - means) > self._settings.anomaly * usual)
        if not len(far):
            return ""
        whats = [
            "reward",
            *(f"{what} of {task}" for what in ("share of positives", "mean prediction") for task in self.tasks),
        ]
        return f"{whats[far[0]]} is {figures[far[0]]:.4g}, and was {means[far[0]]:.4g} in the rounds before"

    def _stays(self, why: str, reward: float, num_lists: int, began_anew: bool) -> Round:
        return Round(
            self._named(), False, f"nothing changes: {why}", reward, num_lists=num_lists, began_anew=began_anew
        )

    def _named(self) -> dict[str, float]:
        return dict(zip(self.tasks, self.weights.tolist(), strict=True))


def _rewards(part: tuple[Lists, np.ndarray], log_weights_T: np.ndarray) -> np.ndarray:
    lists, terms_NT = part
    rewards_L: np.ndarray = lists.rewards(terms_NT @ normalised(np.exp(log_weights_T - log_weights_T.max())))
    return rewards_L
