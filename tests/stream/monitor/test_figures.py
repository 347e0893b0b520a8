"""Figures and their intervals: against exact ones, against brute force, and against what they must cover."""

import numpy as np
import pytest

from learner.metrics import uauc
from stream.monitor.figures.bootstrap import NUM_REPLICATES, replicate_weights, user_hashes
from stream.monitor.figures.bucket import COUNT, UAUC, UAUC_WEIGHT, Bucket, merge
from stream.monitor.figures.fading import Fading
from stream.monitor.figures.intervals import bootstrapped, histogram_auc, wilson
from stream.monitor.figures.user_auc import UserAuc


def ranked_users(num_users: int, per_user: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, labels and predictions of a model that ranks some users better than others."""
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.repeat(np.arange(num_users), per_user))
    labels = rng.random(len(users)) < rng.uniform(0.2, 0.8, num_users)[users]
    skill = rng.normal(1.0, 0.6, num_users)[users]
    predictions = 1 / (1 + np.exp(-(skill * (labels - 0.5) + rng.normal(size=len(users)) + 2 * (users % 3 - 1))))
    return users, labels.astype(np.int64), predictions


def test_the_uauc_of_a_stream_is_near_the_exact_one() -> None:
    users, labels, predictions = ranked_users(400, 60, seed=1)
    shares = UserAuc().update(users, predictions, labels, np.ones(len(users)))
    counted = shares >= 0
    assert counted.mean() > 0.9
    assert shares[counted].mean() == pytest.approx(uauc(labels, predictions, users), abs=0.01)


def test_the_uauc_of_a_stream_weighs_negatives_that_stand_for_others() -> None:
    # One positive against a negative below it that stands for three, and one above it.
    shares = UserAuc().update(
        np.zeros(3, np.int64), np.array([0.1, 0.9, 0.5]), np.array([0, 0, 1]), np.array([3.0, 1.0, 1.0])
    )
    assert shares.tolist() == [-1.0, -1.0, 0.75]


def test_a_late_label_moves_its_negative() -> None:
    auc = UserAuc()
    auc.update(np.array([5, 5]), np.array([0.3, 0.6]), np.array([0, 0]), np.ones(2))
    auc.turn(5, 0.6)
    assert auc.update(np.array([5]), np.array([0.5]), np.array([0]), np.ones(1)).tolist() == [1.0]
    auc.turn(6, 0.5)  # of a user that is not known: nothing happens


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held, runs = np.random.default_rng(3), 0, 200
    for run in range(runs):
        # Impressions of a user resemble each other: an interval that takes them for independent is too narrow.
        sizes = rng.integers(1, 20, 150)
        users = np.repeat(np.arange(150), sizes)
        values = rng.normal(0.0, 1.0, 150)[users] + rng.normal(0.0, 0.3, len(users))
        weights_NR = replicate_weights(np.array(user_hashes([f"{run}-{user}" for user in users])))
        estimate = bootstrapped((weights_NR * values[:, None]).sum(0), weights_NR.sum(0))
        assert estimate.value == pytest.approx(values.mean())
        held += estimate.low <= 0.0 <= estimate.high
        naive = 1.96 * values.std() / np.sqrt(len(values))
        assert estimate.high - estimate.value > 1.3 * naive
    assert 0.88 * runs <= held <= 0.99 * runs


def test_replicates_are_the_same_in_every_process() -> None:
    weights = replicate_weights(np.array(user_hashes(["u1", "u2"])))
    assert weights.shape == (2, 1 + NUM_REPLICATES)
    assert weights[:, 0].tolist() == [1.0, 1.0]
    assert weights[0, 1:6].tolist() == replicate_weights(np.array(user_hashes(["u1"])))[0, 1:6].tolist()
    assert replicate_weights(np.arange(8192)).mean() == pytest.approx(1.0, abs=0.01)


def test_intervals_stay_within_what_is_possible() -> None:
    assert wilson(0, 3).low == pytest.approx(0.0, abs=1e-12)
    assert wilson(3, 3).high == pytest.approx(1.0)
    few = histogram_auc(np.array([2.0, 0.0]), np.array([0.0, 1.0]))
    assert (few.value, few.high) == (1.0, 1.0)
    assert histogram_auc(np.array([2.0]), np.array([0.0])).value is None
    assert bootstrapped(np.zeros(5), np.zeros(5)).value is None


def buckets_of(counts: list[list[int]]) -> list[Bucket]:
    """Buckets of two cohorts; the UAUC's sum is as large as the number of the bucket."""
    made = []
    for number, of_cohorts in enumerate(counts):
        bucket = Bucket(2, 1, 5, 2)
        bucket.sums_CM[:, COUNT] = of_cohorts
        bucket.replicates_CR5[:, 0, UAUC] = number * np.array(of_cohorts)
        bucket.replicates_CR5[:, 0, UAUC_WEIGHT] = of_cohorts
        made.append(bucket)
    return made


def test_fading_weighs_a_sample_by_those_of_its_cohort_that_came_after_it() -> None:
    counts, half_life = [[100, 10], [50, 0], [200, 30]], 100.0
    fading = Fading(buckets_of(counts)[0], half_life)
    for bucket in buckets_of(counts):
        fading.update(bucket)
    found = fading.compute()
    for cohort in range(2):
        own = [row[cohort] for row in counts]
        weights = np.array([0.5 ** (sum(own[at + 1 :]) / half_life) for at in range(3)])
        mean = (weights * own * np.arange(3)).sum() / (weights * own).sum()
        worth = (weights * own).sum() ** 2 / (weights**2 * own).sum()
        assert found.replicates_CR5[cohort, 0, UAUC] / found.replicates_CR5[cohort, 0, UAUC_WEIGHT] == pytest.approx(
            mean
        )
        assert found.sums_CM[cohort, COUNT] == pytest.approx(worth)


def test_fading_together_takes_cohorts_for_one() -> None:
    buckets = buckets_of([[100, 10], [50, 0], [200, 30]])
    fading = Fading(buckets[0], 100.0, slice(0, 2))
    for bucket in buckets:
        fading.update(bucket)
    found = fading.compute().replicates_CR5[:, 0].sum(0)
    weights, own = np.array([0.5 ** (280 / 100), 0.5 ** (230 / 100), 1.0]), np.array([110, 50, 230])
    assert found[UAUC] / found[UAUC_WEIGHT] == pytest.approx((weights * own * np.arange(3)).sum() / (weights @ own))


def test_a_quiet_stream_fades_to_itself() -> None:
    buckets = buckets_of([[30, 7]])
    fading = Fading(buckets[0], 20.0)
    fading.update(buckets[0])
    np.testing.assert_allclose(fading.compute().sums_CM, merge(buckets).sums_CM)


def test_old_arrival_days_are_let_go() -> None:
    buckets = [Bucket(2, 1, 5, 2) for _ in range(100)]
    for day, bucket in enumerate(buckets):
        bucket.arrival(day)[:] = 1.0
    kept = merge(buckets).arrivals
    assert sorted(kept) == list(range(72, 100))
