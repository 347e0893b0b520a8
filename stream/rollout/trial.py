"""A trial: whether the newest weights do harm, compared with the stable ones on the very same impressions.

A canary user's candidates are scored by both, so that each outcome gives a pair of losses: far more is learned from
fewer users than by comparing two groups of them. Users come again, so outcomes are not independent: those of one user
in one block count as one value. What then remains, that a user's next block is like the last, is within the tolerance
that harm has to exceed.

Legend: N outcomes of a block, U users of them.
"""

import math

import msgspec
import numpy as np

from state_store.rollout import Rollout
from stream.rollout.evidence import Bets
from stream.sections import ServingSettings
from stream.served import ServedOutcomes

COLD_BELOW = 10
"""Users with fewer earlier impressions are judged by themselves, too."""
HARMS = ("log_loss", "log_loss_cold", "too_high", "too_low", "slower")
"""What is called harm; each has an equal part of the error that is allowed. The last one is the scorer's to judge."""

_MOST = 1.0
"""Differences of log-losses (nats) count up to here: one outcome is not to decide."""
_LEAST = 1e-6


class Harm(msgspec.Struct, frozen=True):
    """Harm that is shown."""

    what: str
    """One of `HARMS`."""
    mean: float
    """Of the difference so far: nats, or probability."""
    tolerance: float
    num_values: int
    """Users' blocks that it was taken over."""

    def __str__(self) -> str:
        what, unit = _SAID[self.what]
        return (
            f"{what} {self.mean:+.4f} {unit} against the stable weights, {self.tolerance:g} are tolerated "
            f"({self.num_values} values)"
        )


_SAID = {
    "log_loss": ("log-loss", "nats"),
    "log_loss_cold": (f"log-loss of users with < {COLD_BELOW} impressions", "nats"),
    "too_high": ("predictions too high by", "more"),
    "too_low": ("predictions too low by", "more"),
}


class Trial(msgspec.Struct, kw_only=True):
    """Evidence against the weights published since the last promotion; plain data, so that a checkpoint can hold it."""

    stable: int
    """Version that they are compared with."""
    candidate: int
    """Version that will be stable if they do no harm."""
    since: int
    """Outcomes of later versions count: earlier ones may have been compared with another stable version."""
    bets: dict[str, list[Bets]]
    """By what is harm: all of its claims have to fall."""
    num_outcomes: int = 0
    """Those of one user in one block count once."""
    first: int = 0
    last: int = 0
    """Versions whose outcomes came."""

    @property
    def said(self) -> str:
        """The versions on trial, for people."""
        return f"{self.first} to {self.last}"

    def is_asked_by(self, rollout: Rollout) -> bool:
        """Whether it is the trial that a rollout is waiting for."""
        asked = rollout.stable, rollout.candidate, rollout.since
        return (self.stable, self.candidate, self.since) == asked


def new_trial(settings: ServingSettings, rollout: Rollout) -> Trial:
    """The trial that a rollout asks for, without evidence."""
    loss, shift = settings.canary_tolerance, settings.canary_calibration

    def bets(tolerance: float, bound: float) -> Bets:
        return Bets(tolerance=tolerance, bound=bound)

    # Too high: above what came, and above what the stable weights said. Weights that leave a stable version which is
    # wrong do no harm, nor does an error that both make.
    return Trial(
        stable=rollout.stable,
        candidate=rollout.candidate,
        since=rollout.since,
        bets={
            "log_loss": [bets(loss, _MOST)],
            "log_loss_cold": [bets(loss, _MOST)],
            "too_high": [bets(shift, 0.5), bets(shift, 1.0)],
            "too_low": [bets(shift, 0.5), bets(shift, 1.0)],
        },
    )


def observe(trial: Trial, outcomes: ServedOutcomes) -> None:
    """Take a block in: of canary users, those of the versions that are on trial."""
    is_ours_N = outcomes.canary_N & np.isfinite(outcomes.other_N) & np.isfinite(outcomes.probability_N)
    is_ours_N &= outcomes.version_N > trial.since
    if not is_ours_N.any():
        return
    new_N, old_N = outcomes.probability_N[is_ours_N], outcomes.other_N[is_ours_N]
    labels_N, signs_N = outcomes.label_N[is_ours_N], outcomes.sign_N[is_ours_N].astype(np.float64)
    users_N = outcomes.users_N[is_ours_N]
    worse_N = log_losses(new_N, labels_N) - log_losses(old_N, labels_N)
    is_cold_N = outcomes.user_impressions_N[is_ours_N] < COLD_BELOW
    higher_N, above_N = new_N - old_N, new_N - labels_N
    bets = trial.bets
    bets["log_loss"][0].update(by_user(users_N, worse_N, signs_N))
    cold = users_N[is_cold_N], worse_N[is_cold_N], signs_N[is_cold_N]
    bets["log_loss_cold"][0].update(by_user(*cold))
    for name, sign in (("too_high", 1.0), ("too_low", -1.0)):
        bets[name][0].update(by_user(users_N, sign * higher_N, signs_N))
        bets[name][1].update(by_user(users_N, sign * above_N, signs_N))
    versions_N = outcomes.version_N[is_ours_N]
    trial.num_outcomes = bets["log_loss"][0].num_values
    trial.first = min(trial.first or int(versions_N.min()), int(versions_N.min()))
    trial.last = max(trial.last, int(versions_N.max()))


def by_user(users_N: np.ndarray, values_N: np.ndarray, signs_N: np.ndarray) -> np.ndarray:
    """Means over each user's outcomes, shape (U,); one that is taken back counts against the one that replaces it.

    >>> by_user(np.array([7, 7, 9]), np.array([0.25, 0.75, 1.0]), np.ones(3))
    array([0.5, 1. ])
    >>> by_user(np.array([7, 7]), np.array([0.25, 0.75]), np.array([-1.0, 1.0]))
    array([0.5])
    """
    _, of_N = np.unique(users_N, return_inverse=True)
    sums_U = np.bincount(of_N, values_N * signs_N)
    means_U: np.ndarray = sums_U / np.maximum(np.bincount(of_N, signs_N), 1.0)
    return means_U


def log_losses(probabilities_N: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Log-loss of each outcome, nats; probabilities are kept a millionth from 0 and 1."""
    right_N = np.where(labels_N, probabilities_N, 1.0 - probabilities_N)
    losses_N: np.ndarray = -np.log(np.clip(right_N, _LEAST, 1.0 - _LEAST))
    return losses_N


def harm(trial: Trial, alpha: float) -> Harm | None:
    """The harm that is shown so far, if any is; wrongly with a probability of at most `alpha` in the whole trial."""
    for name, bets in trial.bets.items():
        if all(one.says(alpha / len(HARMS)) for one in bets):
            return Harm(name, bets[0].mean, bets[0].tolerance, bets[0].num_values)
    return None


def is_doubted(trial: Trial) -> bool:
    """Whether what came lately speaks for harm rather than against it, though nothing is shown."""
    return any(all(one.is_winning for one in bets) for bets in trial.bets.values())


def log_evidence(trial: Trial) -> dict[str, float]:
    """By what is harm, the logarithm of the odds that a gambler has won so far; its threshold is log(5 / alpha)."""
    return {name: min(one.log_wealth for one in bets) for name, bets in trial.bets.items()}


def most_evidence(alpha: float) -> float:
    """The threshold of `log_evidence`."""
    return math.log(len(HARMS) / alpha)
