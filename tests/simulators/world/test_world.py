"""Each parameter of a world does what it says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from simulators.world.items import NONE, without_repeats
from simulators.world.log import show_unranked
from simulators.world.parameters import Parameters, WorldError, load_parameters
from simulators.world.tail import share_of_top
from simulators.world.world import Impressions, World, joined

QUIET: dict[str, Any] = {
    "users": {"number": 500, "level": 0.0},
    "items": {"number": 300, "quality": 0.0},
    "lists": {"noise": 0.0, "position_bias": 0.0},
    "returns": {"strength": 0.0},
}
"""Nothing but taste."""
CLICK = {"name": "click", "base": -1.0, "of": "shown"}


def parameters(**changes: Mapping[str, Any]) -> Parameters:
    given = {name: QUIET.get(name, {}) | dict(changes.pop(name, {})) for name in QUIET}
    return msgspec.convert({"step_minutes": 30} | given | changes, Parameters)


def lived(of: Parameters, num_steps: int, seed: int = 3) -> tuple[World, Impressions]:
    world = World(of, seed)
    return world, joined([show_unranked(world, world.step()) for _ in range(num_steps)])


def pairs(world: World, size: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    users, items = world.parameters.users.number, world.parameters.items.number
    return rng.integers(users, size=size), rng.integers(items, size=size)


def test_a_seed_makes_a_world() -> None:
    (_, first), (_, same), (_, other) = (lived(parameters(), 6, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.ts_N, same.ts_N)
    assert np.array_equal(first.reactions.happened_NO, same.reactions.happened_NO)
    assert not np.array_equal(first.ts_N[:50], other.ts_N[:50])


def test_five_percent_of_users_and_of_items_have_four_fifths_of_the_impressions() -> None:
    _, shown = lived(Parameters(), 10 * 24)
    assert share_of_top(np.bincount(shown.user_N)) >= 0.8
    assert share_of_top(np.bincount(shown.item_N)) >= 0.8


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_attributes_carry_their_share_of_taste(share: float) -> None:
    world = World(parameters(users={"number": 6000, "attribute_share": share, "attributes": {"a": 6, "b": 5}}), 1)
    tastes = world.users.tastes
    codes_NK = np.concatenate([np.eye(n)[tastes.codes_NA[:, a]] for a, n in enumerate((6, 5))], axis=1)
    rest_ND = tastes.vectors_ND - codes_NK @ np.linalg.lstsq(codes_NK, tastes.vectors_ND, rcond=None)[0]
    assert 1 - rest_ND.var() / tastes.vectors_ND.var() == pytest.approx(share, abs=0.03)
    assert tastes.vectors_ND.var(axis=0) == pytest.approx(1.0, abs=0.25)


def test_taste_and_quality_have_the_spread_that_is_set() -> None:
    for taste, quality in ((1.5, 0.0), (0.0, 0.8)):
        world = World(parameters(taste={"scale": taste}, items={"number": 4000, "quality": quality}), 1)
        assert world.appeal(*pairs(world)).std() == pytest.approx(np.hypot(taste, quality), rel=0.1)


def test_quality_goes_with_popularity_as_far_as_is_said() -> None:
    for wanted in (-0.6, 0.0, 0.6):
        items = World(parameters(items={"number": 5000, "quality": 1.0, "quality_popularity": wanted}), 1).items
        # What is popular and what is old differ; so the correlation is with what was drawn.
        found = np.corrcoef(items.quality_I, np.log(items._appeal_I))[0, 1]
        assert found == pytest.approx(wanted, abs=0.05)


def test_tastes_drift_by_their_share_a_day() -> None:
    world = World(parameters(taste={"drift": 0.1}, users={"number": 2000, "turnover": 0.0}, step_minutes=720), 1)
    before_ND = world.users.tastes.own_ND.copy()
    for _ in range(11):
        world.step()
    # Five midnights have passed.
    found = np.corrcoef(before_ND.ravel(), world.users.tastes.own_ND.ravel())[0, 1]
    assert found == pytest.approx(0.9**2.5, abs=0.02)


def test_users_and_items_turn_over() -> None:
    world, shown = lived(parameters(users={"turnover": 0.2}, items={"turnover": 0.1}), 49 * 4)
    assert world.users.num_arrived == pytest.approx(500 * (1 + 4 * -np.log(0.8)), rel=0.15)
    assert world.items.num_arrived == pytest.approx(300 * (1 + 4 * -np.log(0.9)), rel=0.15)
    # Whoever arrives comes at once.
    assert len(np.unique(shown.user_N[shown.user_N >= 500])) == world.users.num_arrived - 500


def test_visits_are_as_many_as_is_said_and_come_in_a_wave() -> None:
    even = {"number": 2000, "turnover": 0.0, "visits_per_day": 2.0, "activity": {"sigma": 0.0}}
    _, shown = lived(parameters(users=even, daily_wave=0.8), 48 * 2)
    assert len(np.unique(shown.visit_N)) == pytest.approx(2000 * 2 * 2, rel=0.05)
    hour_N = shown.ts_N // 3_600_000 % 24
    by_hour = np.bincount(hour_N, minlength=24)
    assert by_hour[[11, 12]].sum() / by_hour[[23, 0]].sum() == pytest.approx(1.8 / 0.2, rel=0.25)


def test_who_is_served_well_comes_back_more_often() -> None:
    users = World(parameters(users={"number": 4000, "activity": {"sigma": 0.0}}, returns={"strength": 4.0}), 1).users
    users.satisfaction_U[:2000], users.satisfaction_U[2000:] = 0.1, -0.1
    slots = users.visits(10.0, np.zeros(0, np.int64))
    assert (slots < 2000).sum() / (slots >= 2000).sum() == pytest.approx(np.exp(4.0 * 0.2), rel=0.05)


def test_satisfaction_is_a_running_mean_of_what_was_seen() -> None:
    users = World(parameters(returns={"memory": 0.5, "expected": 0.2}), 1).users
    users.served(np.array([7, 7, 9]), np.array([0.6, 0.6, 0.1]))
    assert users.satisfaction_U[[7, 9, 11]] == pytest.approx([0.4 * 0.75, -0.1 * 0.5, 0.0])


def test_later_positions_are_looked_at_less() -> None:
    _, shown = lived(parameters(lists={"position_bias": 0.7}, taste={"scale": 0.0}, outcomes=[CLICK]), 48 * 8)
    clicked_N, size = shown.reactions.happened_NO[:, 0], 6
    rates_L = np.bincount(shown.position_N, clicked_N) / np.bincount(shown.position_N)
    assert rates_L / rates_L[0] == pytest.approx(np.arange(1, size + 1) ** -0.7, abs=0.1)


def test_noise_is_clicks_without_taste() -> None:
    _, shown = lived(parameters(lists={"noise": 1.0}, taste={"scale": 3.0}, outcomes=[CLICK]), 48 * 4)
    clicked_N, likes_N = shown.reactions.happened_NO[:, 0], shown.truth.appeal_N > 0
    assert clicked_N[likes_N].mean() == pytest.approx(clicked_N[~likes_N].mean(), abs=0.03)
    assert clicked_N.mean() == pytest.approx(1 / (1 + np.e), abs=0.02)


def test_outcomes_have_their_rates_delays_and_values() -> None:
    outcomes = [
        CLICK,
        {"name": "like", "base": 0.5, "taste": 0.0, "delay_s": 40.0, "delay_sigma": 0.5},
        {"name": "skip", "base": -2.0, "taste": -1.0, "of": "shown"},
        {"name": "watch", "base": 20.0, "taste": 0.0, "value": 12.0, "value_taste": 0.5, "delay_sigma": 0.3},
    ]
    _, shown = lived(parameters(outcomes=outcomes), 48 * 6)
    found, appeal_N = shown.reactions, shown.truth.appeal_N
    clicked, liked, skipped, watched = found.happened_NO.T
    assert not (liked & ~clicked).any()
    assert (watched == clicked).all()
    assert liked.sum() / clicked.sum() == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.03)
    assert skipped[appeal_N < -0.5].mean() > 2 * skipped[appeal_N > 0.5].mean()
    logs_H = np.log(found.delay_ms_NO[liked, 1] / 1000)
    assert (np.median(logs_H), logs_H.std()) == pytest.approx((np.log(40.0), 0.5), abs=0.08)
    slope, level = np.polyfit(appeal_N[watched], np.log(found.value_NO[watched, 3]), 1)
    assert (slope, level) == pytest.approx((0.5, np.log(12.0)), abs=0.05)
    assert found.delay_ms_NO[watched, 3] == pytest.approx(found.value_NO[watched, 3] * 1000, abs=1.0)


def test_trends_rise_and_fall_and_items_age() -> None:
    of = parameters(items={"number": 3000, "turnover": 0.0, "trend": 0.7, "trend_days": 2.0}, step_minutes=1440)
    world = World(of, 1)
    before_I = world.items._trend_I.copy()
    for _ in range(3):
        world.step()
    after_I = world.items._trend_I
    assert after_I.std() == pytest.approx(0.7, rel=0.06)
    # The first step is the beginning's own day.
    assert np.corrcoef(before_I, after_I)[0, 1] == pytest.approx(np.exp(-3 / 2.0), abs=0.06)
    young_I, old_I = np.diff(world.items._bounds_I, prepend=0.0), world.items.born_I.copy()
    world.items.born_I[:1500] -= of.items.lifetime_days
    world.items._weigh(2.0)
    weight_I = np.diff(world.items._bounds_I, prepend=0.0)
    assert old_I.max() <= 0.0
    ratio = (weight_I[:1500].sum() / young_I[:1500].sum()) / (weight_I[1500:].sum() / young_I[1500:].sum())
    assert ratio == pytest.approx(np.exp(-1.0), rel=0.05)


def test_candidates_come_from_where_they_are_said_to() -> None:
    world = World(parameters(items={"number": 1000, "popularity": {"sigma": 0.0}}), 1)
    rng, how = (
        np.random.default_rng(2),
        msgspec.structs.replace(world.parameters.lists.shown, popular=0.5, new=0.3, newest=10),
    )
    found_VC = world.items.candidates((4000, 8), how, rng)
    first_V = found_VC[:, 0]
    assert (first_V >= 990).mean() == pytest.approx(0.3 + 0.2 * 0.01 + 0.5 * 0.01, abs=0.03)


def test_no_list_has_an_item_twice() -> None:
    slots_VC = np.random.default_rng(1).integers(12, size=(200, 15))
    found_VC = without_repeats(slots_VC)
    for before, after in zip(slots_VC.tolist(), found_VC.tolist(), strict=True):
        assert [slot for slot in after if slot != NONE] == list(dict.fromkeys(before))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[users]\nnumbr = 5", "numbr"),
        ("[users]\nturnover = 1.5", "turnover"),
        ("[users.attributes]\nauthor = 5", "author"),
        ("[[outcomes]]\nname = 'like'\nbase = 0.0", "first"),
        ("[lists.shown]\npopular = 0.9\nnew = 0.2", "<= 1"),
        ("[lists]\nsize = 1000\nseconds = 600.0", "step"),
        ("users = ", "TOML|toml|Invalid"),
    ],
)
def test_a_world_that_cannot_be_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(WorldError, match=said):
        load_parameters(file)
