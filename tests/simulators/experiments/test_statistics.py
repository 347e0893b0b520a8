"""The statistics against what their definitions say, pair by pair and draw by draw."""

import math

import numpy as np
import pytest

from learner.metrics import auc, uauc
from simulators.experiments.statistics.bootstrap import UserBootstrap, interval
from simulators.experiments.statistics.delong import compare, midranks
from simulators.experiments.statistics.replicates import drawn_users


def _predictions(num: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, two correlated scores with ties, and users."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.4).astype(np.float32)
    common = labels + rng.normal(0, 1.5, num)
    first, second = (np.round(common + rng.normal(0, spread, num), 1) for spread in (0.8, 0.5))
    return labels, first, second, rng.integers(12, size=num)


def _kernel(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether each positive is above each negative; ties are one half."""
    positive, negative = scores[labels > 0][:, None], scores[labels == 0][None]
    return (positive > negative) + 0.5 * (positive == negative)


@pytest.mark.parametrize("seed", range(4))
def test_delong_is_the_definition_over_all_pairs(seed: int) -> None:
    labels, first, second, _ = _predictions(70, seed)
    a, b = _kernel(labels, first), _kernel(labels, second)
    difference = b - a
    of_positives, of_negatives = difference.mean(axis=1), difference.mean(axis=0)
    variance = of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives)
    found = compare(labels, first, second)
    assert found.aucs == pytest.approx((a.mean(), b.mean()), abs=1e-12)
    assert found.aucs == pytest.approx((auc(labels, first), auc(labels, second)), abs=1e-12)
    assert found.error == pytest.approx(math.sqrt(variance), abs=1e-12)
    z = (b.mean() - a.mean()) / math.sqrt(variance)
    assert found.p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=1e-12)
    assert (found.low + found.high) / 2 == pytest.approx(found.difference)


def test_the_error_is_that_of_samples_drawn_again() -> None:
    """The spread of the difference over fresh samples of the same kind is what one of them is said to have."""
    found = [compare(*_predictions(150, seed)[:3]) for seed in range(400)]
    spread = np.std([each.difference for each in found])
    assert np.mean([each.error for each in found]) == pytest.approx(spread, rel=0.12)


def test_a_model_does_not_differ_from_itself() -> None:
    labels, first, _, _ = _predictions(50, 0)
    found = compare(labels, first, first)
    assert (found.difference, found.error, found.p) == (0.0, 0.0, 1.0)


def test_too_few_of_a_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="two positives and two negatives at least, got 1 and 3"):
        compare(np.array([1, 0, 0, 0]), np.arange(4.0), np.arange(4.0))


def test_midranks_of_what_is_all_the_same() -> None:
    assert midranks(np.zeros(4)).tolist() == [2.5] * 4


def test_replicates_are_the_metrics_of_the_samples_that_were_drawn() -> None:
    labels, first, _, users = _predictions(200, 3)
    draws = drawn_users(12, 20, seed=5)
    bootstrap = UserBootstrap(12, 20, seed=5)
    of_all, of_users = bootstrap.auc(labels, first, users), bootstrap.user_auc(labels, first, users)
    for r in range(21):
        times = draws[users, r].astype(int)
        again = np.repeat(np.arange(200), times)
        assert of_all[r] == pytest.approx(auc(labels[again], first[again]), abs=1e-12)
        # A user who is drawn twice is two users.
        copies = np.concatenate([np.arange(n) for n in times])
        apart = users[again] * 100 + copies
        assert of_users[r] == pytest.approx(uauc(labels[again], first[again], apart), abs=1e-12)
    assert interval(of_all).value == pytest.approx(auc(labels, first), abs=1e-12)


def test_differences_of_the_same_draws_are_narrower_than_the_figures() -> None:
    labels, first, second, users = _predictions(2000, 1)
    bootstrap = UserBootstrap(12, 200)
    a, b = (bootstrap.auc(labels, scores, users) for scores in (first, second))
    paired, single = interval(b - a), interval(a)
    assert paired.high - paired.low < single.high - single.low
    assert paired.low < paired.value < paired.high
