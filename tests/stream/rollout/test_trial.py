"""Harm is found, what is no harm is left alone, and the error is what it is said to be, however often one looks."""

import math

import numpy as np
import pytest
from support.outcomes import outcomes

from state_store.rollout import Rollout
from stream.rollout.evidence import Bets
from stream.rollout.trial import HARMS, Trial, by_user, harm, new_trial, observe
from stream.sections import ServingSettings

SETTINGS = ServingSettings(canary_share=0.1)


def trial() -> Trial:
    return new_trial(SETTINGS, Rollout(stable=1, candidate=2, since=3))


def logistic(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def test_bets_are_those_of_a_gambler_who_shares_his_money_anew_after_each_block() -> None:
    rng = np.random.default_rng(3)
    bets, wealth = Bets(tolerance=0.1, bound=0.5), 1.0
    shares = [0.0] + [2.0**-j for j in range(1, 9)]
    prior = [0.5] + [0.5 / 8] * 8
    money = list(prior)
    for size in (1, 7, 3, 0, 40):
        values = rng.uniform(-0.8, 0.9, size)
        bets.update(values)
        if not size:
            continue
        for value in values:
            bet = (min(max(value, -0.5), 0.5) - 0.1) / 0.6
            money = [part * (1 + share * bet) for part, share in zip(money, shares, strict=True)]
        wealth *= sum(money)
        money = [0.99 * part / sum(money) + 0.01 * first for part, first in zip(money, prior, strict=True)]
        assert bets.log_wealth == pytest.approx(math.log(wealth), abs=1e-9)
        assert bets.money == pytest.approx(money)
    assert bets.num_values == 51


@pytest.mark.parametrize(("mean", "spread"), [(0.02, 0.0), (0.0, 0.05)])
def test_false_alarms_are_no_more_than_is_said(mean: float, spread: float) -> None:
    """Users come again in every block, and some like the one version better than the other; one looks after each."""
    alpha, num_runs, alarms = 0.05, 200, 0
    for seed in range(num_runs):
        rng = np.random.default_rng(seed)
        of_users = mean + rng.normal(0, spread, 400)
        bets = Bets(tolerance=0.02, bound=0.25)
        for _ in range(50):
            users = rng.integers(0, 400, 8).repeat(5)
            bets.update(by_user(users, of_users[users] + rng.normal(0, 0.2, 40), np.ones(40)))
        alarms += bets.says(alpha)
    # A rate of alpha gives more than this once in a thousand times.
    assert alarms <= num_runs * alpha + 3.1 * math.sqrt(num_runs * alpha * (1 - alpha))


def drawn(
    rng: np.random.Generator, new: float, old: float, truth: float, count: int = 40, apart: float = 0.2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities whose logits are beside the true ones by so much, and by noise."""
    logits = rng.normal(truth, 1.0, count)
    labels = rng.random(count) < logistic(logits)
    return logistic(logits + new + rng.normal(0, apart, count)), logistic(logits + old), labels


CASES = [
    # What the newest and the stable weights are beside the truth; what is called harm.
    (0.0, 0.0, ""),
    (0.0, 1.0, ""),
    (0.4, 0.5, ""),
    (-0.4, -0.5, ""),
    (0.9, 0.0, "too_high"),
    (-0.9, 0.0, "too_low"),
]


@pytest.mark.parametrize(("new", "old", "what"), CASES)
def test_harm_is_what_the_stable_weights_do_not_do(new: float, old: float, what: str) -> None:
    rng, held = np.random.default_rng(5), trial()
    for _ in range(100):
        observe(held, outcomes(*drawn(rng, new, old, -0.5)))
    found = harm(held, 0.01)
    says = {name for name, bets in held.bets.items() if all(one.says(0.01 / len(HARMS)) for one in bets)}
    assert (found is not None) == bool(what)
    assert what in says or not what
    assert held.num_outcomes == 4000
    assert (held.first, held.last) == (5, 5)


def test_noise_alone_is_harm_and_cold_users_are_judged_by_themselves() -> None:
    rng, of_cold, of_all = np.random.default_rng(5), trial(), trial()
    for _ in range(100):
        new_N, old_N, labels_N = drawn(rng, 0.0, 0.0, 0.0, apart=0.02)
        cold_N = np.arange(40) < 4
        new_N[cold_N] = 1 - new_N[cold_N]
        counts_N = np.where(cold_N, 3, 300).astype(np.int32)
        observe(of_cold, outcomes(new_N, old_N, labels_N, user_impressions_N=counts_N))
        observe(of_all, outcomes(*drawn(rng, 0.0, 0.0, 0.0, apart=1.5)))
    found = harm(of_all, 0.01)
    assert found is not None
    assert found.what == "log_loss"
    assert "tolerated" in str(found)
    assert of_cold.bets["log_loss_cold"][0].highest > of_cold.bets["log_loss"][0].highest
    assert of_cold.bets["log_loss_cold"][0].says(0.01 / len(HARMS))


def test_others_outcomes_and_earlier_versions_are_no_evidence() -> None:
    rng, held = np.random.default_rng(5), trial()
    new_N, old_N, labels_N = drawn(rng, 3.0, 0.0, -1.0)
    observe(held, outcomes(new_N, old_N, labels_N, version=3))
    observe(held, outcomes(new_N, old_N, labels_N, canary_N=np.zeros(40, np.bool_)))
    observe(held, outcomes(new_N, np.full(40, np.nan), labels_N))
    assert held == trial()
    observe(held, outcomes(new_N, old_N, labels_N, version=4))
    assert held.num_outcomes == 40


def test_a_user_counts_once_in_a_block_and_a_late_label_takes_its_negative_back() -> None:
    new_N, old_N = np.array([0.7, 0.7, 0.6, 0.2]), np.array([0.6, 0.6, 0.5, 0.2])
    held = trial()
    given = {"users_N": np.array([1, 1, 2, 3], np.uint64), "sign_N": np.array([-1, 1, 1, 1], np.int8)}
    observe(held, outcomes(new_N, old_N, np.array([False, True, True, False]), **given))
    late = -(math.log(0.4) - math.log(0.3)) + math.log(0.6) - math.log(0.7)
    bets = held.bets["log_loss"][0]
    assert bets.num_values == held.num_outcomes == 3
    assert bets.total == pytest.approx(late + math.log(0.5) - math.log(0.6))
