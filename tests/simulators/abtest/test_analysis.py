"""Intervals, boundaries and power against known answers, and against simulation."""

import numpy as np
import pytest

from simulators.abtest.analysis.difference import adjusted, difference_of, mismatch, relative_difference
from simulators.abtest.analysis.pooled import between_runs, pooled, pooled_with_few, users_needed
from simulators.abtest.analysis.sequential import boundaries, spent
from simulators.abtest.reporting.report import Run, summary_of
from simulators.abtest.run import split
from simulators.abtest.verdict import GROUPS, Verdict


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(1500):
        first, second = rng.gamma(2.0, 1.0, 400), rng.gamma(2.0, 1.1, 300)
        found = relative_difference(first, second)
        assert found is not None
        held += found.low < 0.1 < found.high
    assert held / 1500 == pytest.approx(0.95, abs=0.015)


def test_what_was_before_takes_its_share_of_the_variance_out() -> None:
    rng = np.random.default_rng(6)
    before = rng.normal(5.0, 2.0, 20_000)
    # Correlation .8: a share of 1 - .64 is left.
    values = 10.0 + 0.8 * (before - 5.0) / 2.0 + 0.6 * rng.normal(size=20_000)
    found = adjusted(values, before)
    assert found.var() / values.var() == pytest.approx(0.36, abs=0.02)
    assert found.mean() == pytest.approx(values.mean())
    assert np.array_equal(adjusted(values, np.zeros(20_000)), values)


def test_nothing_is_said_where_nothing_can_be() -> None:
    assert relative_difference(np.zeros(5), np.ones(5)) is None
    assert relative_difference(np.ones(1), np.ones(5)) is None


def test_boundaries_are_those_of_lan_and_demets() -> None:
    # Two-sided .05, O'Brien-Fleming's spending, five looks: Jennison and Turnbull, 2000; ldbounds has the same.
    assert boundaries(5) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.002)
    assert boundaries(1) == pytest.approx([1.960], abs=0.001)
    # 4 (1 - Phi(2.2414 / .5)).
    assert spent(0.25) == pytest.approx(1.473e-5, rel=0.01)


def test_looking_at_each_day_finds_nothing_too_often() -> None:
    rng, bounds = np.random.default_rng(7), np.array(boundaries(4))
    sums = np.cumsum(rng.normal(size=(40_000, 4)), axis=1) / np.sqrt(np.arange(1, 5))
    assert (np.abs(sums) > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)
    assert (np.abs(sums) > 1.96).any(axis=1).mean() > 0.1


def test_effects_over_seeds_are_random() -> None:
    # DerSimonian and Laird by hand: weights 100, Q = 6, tau^2 = (6 - 2) / (300 - 100) = .02.
    found = [difference_of(value, 0.1) for value in (-0.1732050808, 0.0, 0.1732050808)]
    assert between_runs(found) == pytest.approx(0.02)
    assert pooled(found).error == pytest.approx(np.sqrt((0.01 + 0.02) / 3))
    same = [difference_of(0.2, 0.1)] * 4
    assert between_runs(same) == 0.0
    # One of them all but exact, as in a small world in which both arms rank alike: rounding must not make a 0 of it.
    uneven = [difference_of(value, error) for value, error in ((0.1, 0.1), (0.0, 2e-9), (-0.1, 0.1))]
    assert between_runs(uneven) == 0.0
    assert pooled(uneven).difference == pytest.approx(0.0, abs=1e-9)
    assert (pooled(same).difference, pooled(same).error) == pytest.approx((0.2, 0.05))


def test_few_runs_are_not_more_certain_than_they_agree() -> None:
    rng, held = np.random.default_rng(9), {pooled: 0, pooled_with_few: 0}
    for _ in range(2000):
        # Effects that differ by far more than each is uncertain.
        found = [difference_of(float(value), 0.01) for value in rng.normal(0.2, 0.1, 5)]
        for how in held:
            held[how] += how(found).low < 0.2 < how(found).high
    assert held[pooled_with_few] / 2000 == pytest.approx(0.95, abs=0.015)
    assert held[pooled] / 2000 < 0.91
    # Where they agree by chance, what is uncertain in each remains.
    same = [difference_of(0.2, 0.1)] * 4
    assert pooled_with_few(same).high == pytest.approx(pooled(same).high)


def test_an_effect_is_found_with_the_power_that_is_said() -> None:
    rng = np.random.default_rng(8)
    pilot = relative_difference(rng.exponential(1.0, 20_000), rng.exponential(1.0, 20_000))
    assert pilot is not None
    number = users_needed(pilot.error, 40_000, 0.05) // 2
    found = 0
    for _ in range(600):
        one = relative_difference(rng.exponential(1.0, number), 0.05 + rng.exponential(1.0, number))
        found += one is not None and one.excludes_zero
    assert found / 600 == pytest.approx(0.8, abs=0.06)


def test_an_uneven_split_is_seen_and_an_even_one_is_not() -> None:
    assert mismatch(10_000, 10_700) < 0.001
    assert mismatch(10_000, 10_020) > 0.5
    arms = split(range(20_000), "salt")
    assert mismatch(int((arms == 0).sum()), int((arms == 1).sum())) > 0.001
    assert np.array_equal(arms[100:200], split(range(100, 200), "salt"))
    assert 0.45 < (arms != split(range(20_000), "other")).mean() < 0.55


def test_a_boundary_is_crossed_by_the_interval() -> None:
    """Two worlds, so that of what is compared visit by visit Student's t, 12.706, takes the place of 1.96."""

    def found(value: float) -> Verdict:
        of = {"click": difference_of(value, 0.001), "reach_gain": difference_of(value, 0.001)}
        return Verdict(dict.fromkeys(GROUPS, of), {"all": [5, 5]}, {group: [{}, {}] for group in GROUPS}, 1.0)

    runs = [Run(seed, [found(value)]) for seed, value in ((7, 0.1), (8, 0.3))]
    (day,) = summary_of(runs, {"a": "", "b": ""})["by_day"]
    # Mean .2, standard error .1: 2 of them, more than one look at 5 % asks for, and less than t does.
    assert day["boundary"] == pytest.approx(1.96, abs=0.001)
    assert day["all"]["reach_gain"]["low"] == pytest.approx(0.2 - 12.706 * 0.1, abs=0.001)
    assert day["crossed"] == ["click"]
