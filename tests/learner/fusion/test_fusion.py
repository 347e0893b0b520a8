"""Fusion of task scores: forms, reward, and a search that finds known weights and lets in only what is better."""

from typing import Any

import numpy as np
import pytest

from learner.fusion.config import FusionSettings
from learner.fusion.reward import Lists, Outcomes
from learner.fusion.score import fused, normalised
from learner.fusion.search import FusionSearch, Round
from learner.fusion.searches import SEARCHES

TASKS = ("click", "like", "watch")
HOUR_MS = 3_600_000
SMALL: dict[str, Any] = {"population": 16, "generations": 8}


def world(
    seed: int, best_T: np.ndarray, form: str, *, num_users: int = 1500, hour: int = 0, size: int = 12
) -> Outcomes:
    """Lists of impressions whose expected worth orders exactly as the fused score with known weights does."""
    rng = np.random.default_rng(seed)
    size = 12
    count = num_users * size
    predictions_NT = rng.beta([1.0, 0.8, 2.0], [3.0, 4.0, 2.0], (count, 3))
    if form == "sum":
        # Labels are what they are predicted to be, and each task is worth its weight.
        labels_NT = (rng.random((count, 3)) < predictions_NT).astype(np.float64)
    else:
        # One outcome, whose probability is a product.
        labels_NT = np.zeros((count, 3))
        worth_N = np.exp(np.log(predictions_NT) @ best_T)
        labels_NT[:, 0] = rng.random(count) < worth_N
    users_N = np.repeat(np.arange(num_users), size)
    return Outcomes(predictions_NT, labels_NT, users_N, users_N, np.full(count, hour * HOUR_MS))


def search_of(form: str, **changes: Any) -> FusionSearch:
    worth = {"click": 1.0, "like": 6.0, "watch": 2.0} if form == "sum" else {}
    return FusionSearch(FusionSettings(form=form, offset=1e-6, worth=worth, **{**SMALL, **changes}), TASKS)


BEST = {"sum": np.array([1.0, 6.0, 2.0]) / 9, "product": np.array([0.2, 0.7, 0.1])}


def rewards(outcomes: Outcomes, weights_T: np.ndarray, form: str) -> np.ndarray:
    gains_N = outcomes.labels_NT @ (np.array([1.0, 6.0, 2.0]) if form == "sum" else np.array([1.0, 1.0, 1.0]))
    lists = Lists(outcomes.lists_N, gains_N, 10)
    return lists.rewards(fused(outcomes.predictions_NT, weights_T, form, 1e-6)[lists.chosen_N])


@pytest.mark.parametrize("method", ["cem", "es"])
@pytest.mark.parametrize("form", ["sum", "product"])
def test_known_best_weights_are_found(form: str, method: str) -> None:
    search, best_T = search_of(form, method=method), BEST[form]
    said = [search.round(world(seed, best_T, form)) for seed in range(4)]
    assert said[0].adopted
    assert np.abs(search.weights - best_T).max() < 0.13
    fresh = world(99, best_T, form, num_users=3000)
    found, known, prior = (rewards(fresh, w, form) for w in (search.weights, best_T, np.full(3, 1 / 3)))
    assert known.mean() - found.mean() < 0.1 * (known.mean() - prior.mean())
    # Seeded: again, to the last bit.
    again = search_of(form, method=method)
    assert [again.round(world(seed, best_T, form)).weights for seed in range(4)] == [one.weights for one in said]
    other = search_of(form, method=method, seed=8)
    assert other.round(world(0, best_T, form)).weights != said[0].weights


def test_a_list_is_rewarded_by_its_normalised_discounted_gain() -> None:
    rng = np.random.default_rng(0)
    lists_N, gains_N = rng.integers(0, 40, 300), rng.integers(0, 3, 300).astype(float)
    scores_N = rng.normal(size=300)
    lists = Lists(lists_N, gains_N, depth=5)
    expected = []
    for one in range(40):
        gains, scores = gains_N[lists_N == one], scores_N[lists_N == one]
        if len(set(gains)) < 2:
            continue
        discount = [1 / np.log2(rank + 2) for rank in range(5)]
        dcg, ideal = (
            sum(g * d for g, d in zip(gains[order], discount, strict=False))
            for order in (np.argsort(-scores), np.argsort(-gains))
        )
        expected.append(dcg / ideal)
    np.testing.assert_allclose(lists.rewards(scores_N[lists.chosen_N]), expected)
    assert lists.rewards(gains_N[lists.chosen_N]).min() == pytest.approx(1.0)


def test_the_forms_are_a_weighted_product_and_a_weighted_sum() -> None:
    rng = np.random.default_rng(1)
    predictions_NT, weights_T = rng.random((50, 3)), np.array([0.2, 0.5, 0.3])
    product_N = ((predictions_NT + 0.01) ** weights_T).prod(1)
    np.testing.assert_allclose(np.exp(fused(predictions_NT, weights_T, "product", 0.01)), product_N)
    np.testing.assert_allclose(fused(predictions_NT, weights_T, "sum"), (predictions_NT * weights_T).sum(1))
    for form in ("product", "sum"):
        one, other = (fused(predictions_NT, scale * weights_T, form).argsort() for scale in (1.0, 7.0))
        np.testing.assert_array_equal(one, other)
    assert normalised(np.array([1.0, 3.0])).tolist() == [0.25, 0.75]


def noise(seed: int) -> Outcomes:
    """Labels that no score knows anything of."""
    rng = np.random.default_rng(seed)
    outcomes = world(seed, BEST["sum"], "sum")
    return outcomes._replace(labels_NT=(rng.random(outcomes.labels_NT.shape) < 0.3).astype(float))


def test_what_is_not_better_on_other_users_does_not_come_into_force() -> None:
    search, said = search_of("sum"), list[Round]()
    for seed in range(8):
        said.append(search.round(noise(seed)))
    assert sum(one.adopted for one in said) <= 2
    refused = next(one for one in said if not one.adopted)
    assert refused.gain < 1.645 * refused.gain_error
    assert refused.weights == said[said.index(refused) - 1].weights


@pytest.mark.parametrize("damage", ["nan", "few", "odd"])
def test_a_round_with_an_anomaly_changes_nothing(damage: str) -> None:
    search, best_T = search_of("sum", anomaly=6.0), BEST["sum"]
    for seed in range(6):
        search.round(world(seed, best_T, "sum"))
    before, outcomes = search.weights, world(7, best_T, "sum")
    if damage == "nan":
        outcomes.predictions_NT[5, 1] = np.nan
    elif damage == "few":
        outcomes = outcomes.take(outcomes.users_N < 150)
    else:
        # A log that was joined wrongly: every label is the opposite of what it was.
        outcomes = outcomes._replace(labels_NT=1 - outcomes.labels_NT)
    said = search.round(outcomes)
    assert not said.adopted
    assert said.said.startswith("nothing changes")
    np.testing.assert_array_equal(search.weights, before)
    assert not search.round(world(8, best_T, "sum")).said.startswith("nothing changes")


def test_an_anomaly_that_stays_is_what_is_usual_from_then_on() -> None:
    search = search_of("sum", least_rounds=3)
    for seed in range(4):
        search.round(world(seed, BEST["sum"], "sum"))
    other = [world(seed, BEST["sum"], "sum") for seed in range(10, 15)]
    said = [search.round(one._replace(labels_NT=1 - one.labels_NT)).said for one in other]
    assert [one.startswith("nothing changes: ") for one in said] == [True, True, True, False, False]


def test_the_search_begins_anew_each_day_and_follows_what_has_changed() -> None:
    """A search that never did would have contracted around yesterday's weights."""
    found = {}
    for reset_h in (24.0, 10_000.0):
        worth = {"click": 1.0, "like": 1.0, "watch": 1.0}
        search = FusionSearch(FusionSettings("sum", worth=worth, reset_h=reset_h, generations=4, anomaly=100), TASKS)
        began = []
        for day in range(4):
            for hour in (0, 8, 16):
                outcomes = world(10 * day + hour, BEST["sum"], "sum", hour=24 * day + hour)
                # From the third day on only the watch is worth anything.
                mask = np.array([1.0, 1.0, 0.0]) if day < 2 else np.array([0.0, 0.0, 1.0])
                said = search.round(outcomes._replace(labels_NT=outcomes.labels_NT * mask))
                began.append(said.began_anew)
        assert began == [reset_h == 24.0 and day > 0 and hour == 0 for day in range(4) for hour in (0, 8, 16)]
        found[reset_h] = search.weights[2]
    assert found[24.0] > 0.5
    assert found[24.0] > found[10_000.0]


def test_a_step_is_bounded() -> None:
    search = search_of("sum", max_step=0.1)
    search.round(world(0, BEST["sum"], "sum"))
    assert np.abs(np.log(search.weights) - np.log(np.full(3, 1 / 3))).max() < 0.21


@pytest.mark.parametrize("method", list(SEARCHES))
def test_a_search_finds_the_top_of_a_hill(method: str) -> None:
    settings = FusionSettings(population=40, generations=60)
    search, rng = SEARCHES[method](settings, np.zeros(3)), np.random.default_rng(0)
    top_T = np.array([1.0, -2.0, 0.5])
    for _ in range(60):
        search.generation(lambda tried_T: -float(np.square(tried_T - top_T).sum()), rng)
    np.testing.assert_allclose(search.mean_T, top_T, atol=0.1)


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fusion.worth names \['buy'\]; the tasks are \['click', 'like', 'watch'\]"):
        FusionSearch(FusionSettings(worth={"buy": 2.0}), TASKS)
