import numpy as np
import pytest
from river import metrics as river_metrics

from learner.metrics import RecentAuc, auc, calibration, log_loss, normalised_entropy, summarise, uauc


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    predictions = np.round(rng.random(400), 2)  # rounded, so that there are ties
    labels = (rng.random(400) < predictions).astype(np.float32)
    return labels, predictions, rng.integers(0, 20, 400)


def brute_force_auc(labels: np.ndarray, predictions: np.ndarray) -> float:
    positive, negative = predictions[labels > 0], predictions[labels == 0]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    return float(wins / (len(positive) * len(negative)))


def test_auc_counts_pairs(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, predictions, _ = sample
    assert auc(labels, predictions) == pytest.approx(brute_force_auc(labels, predictions), abs=1e-12)
    assert np.isnan(auc(np.ones(3), np.ones(3)))


def test_uauc_weighs_users_by_samples(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, predictions, users = sample
    parts = []
    for user in np.unique(users):
        chosen = users == user
        if 0 < labels[chosen].mean() < 1:
            parts.append((brute_force_auc(labels[chosen], predictions[chosen]), chosen.sum()))
    expected = sum(a * n for a, n in parts) / sum(n for _, n in parts)
    assert uauc(labels, predictions, users) == pytest.approx(expected)


def test_log_loss_agrees_with_river(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, predictions, _ = sample
    predictions = np.clip(predictions, 0.01, 0.99)
    theirs = river_metrics.LogLoss()
    for label, prediction in zip(labels, predictions, strict=True):
        theirs.update(bool(label), float(prediction))
    assert log_loss(labels, predictions) == pytest.approx(theirs.get())


def test_a_constant_has_ne_one_and_calibration_one(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, _, _ = sample
    constant = np.full(len(labels), labels.mean())
    assert normalised_entropy(labels, constant) == pytest.approx(1.0)
    assert calibration(labels, constant) == pytest.approx(1.0)


def test_a_weight_of_three_is_a_sample_thrice(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, predictions, users = sample
    weights = np.random.default_rng(1).integers(1, 4, len(labels))
    thrice = [np.repeat(values, weights) for values in sample]
    weighted = summarise(labels, predictions, users, weights)
    repeated = summarise(*thrice)
    for name in ("auc", "uauc", "log_loss", "ne", "base_rate"):
        assert weighted[name] == pytest.approx(repeated[name]), name
    # Only negatives ever stand for others.
    weights[labels > 0] = 1
    assert calibration(labels, predictions, weights) == pytest.approx(
        calibration(np.repeat(labels, weights), np.repeat(predictions, weights))
    )


def test_recent_auc_forgets() -> None:
    recent = RecentAuc(100)
    recent.update(np.array([1.0, 0.0] * 50), np.array([0.1, 0.9] * 50))
    assert recent.compute()["auc"] == 0.0
    recent.update(np.array([1.0, 0.0] * 50), np.array([0.9, 0.1] * 50))
    assert recent.compute()["auc"] == 1.0
