"""A world as a log, what is said of it against the truth, and a world like a log."""

from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.faults import FaultSettings
from simulators.logs.log import ROW_SCHEMA
from simulators.logs.open import open_log
from simulators.replay import ReplaySettings
from simulators.runs.run_backtest import run_backtest
from simulators.world.fitting.fit import fit_world
from simulators.world.fitting.interplay import interplay
from simulators.world.judged import expected_auc, judge
from simulators.world.log import WorldLog
from simulators.world.parameters import Parameters, load_parameters
from simulators.world.rows import APPEAL, TRUTH
from state_store.config import RedisSettings
from stream.settings import load_settings

SMALL = msgspec.convert(
    {"users": {"number": 300}, "items": {"number": 150}, "lists": {"size": 4}, "step_minutes": 360}, Parameters
)


def test_rows_are_those_of_a_log() -> None:
    log = open_log("world", None, seed=5, num_synthetic=5000)
    whole = pl.concat(log.stretches())
    assert {name: whole.schema[name] for name in ROW_SCHEMA} == ROW_SCHEMA
    assert whole["ts"].is_sorted()
    assert whole["imp_id"].is_unique().all()
    assert len(whole) == log.span()[0] == 5000
    assert whole.equals(pl.concat(open_log("world", None, seed=5, num_synthetic=5000).stretches()))
    middle = int(whole["ts"][2500])
    assert pl.concat(log.stretches(to_ms=middle)).equals(whole.filter(pl.col("ts") < middle))
    assert pl.concat(log.stretches(from_ms=middle, num_rows=7)).equals(whole.filter(pl.col("ts") >= middle).head(7))


def test_a_world_may_have_parameters_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text("[users.attributes]\nplanet = 3\n", encoding="utf-8")
    rows = next(open_log(f"world:{file}", None, num_synthetic=100).stretches())
    assert set(rows["feature.planet"].unique()) == {"planet0", "planet1", "planet2"}


def test_a_backtest_of_a_world_says_how_far_from_the_truth_it_is(redis_settings: RedisSettings, tmp_path: Path) -> None:
    log = WorldLog(SMALL, 3, 1200)
    settings = load_settings(environment={}, defaults=log.settings)
    settings = msgspec.structs.replace(settings, redis=redis_settings)
    how = ReplaySettings(faults=FaultSettings(duplicates=0.02, out_of_order=0.02))
    summary = run_backtest(settings, log, how, tmp_path)
    truth = summary["truth"]
    assert summary["counts_match"]
    assert truth["samples"] == summary["impressions_evaluated"] == 1200
    assert 0.5 < truth["true_auc"] < truth["best_auc"]
    assert 0.0 < truth["regret"] < truth["random_regret"]
    assert truth["calibration"] == pytest.approx(1.0, abs=0.15)
    assert sum(of["samples"] for of in truth["cohorts"].values()) == 1200
    assert truth["nth_impression"]["1"]["samples"] == pl.concat(log.stretches())["user_id"].n_unique()
    by_item = truth["item_shown_before"]
    assert sum(of["samples"] for of in by_item.values()) == 1200
    parts = sum(by_item[name]["samples"] for name in ("0", "1-4", "5-9"))
    assert parts == truth["item_cohorts"]["0-9"]["samples"]
    assert by_item["10-49"] == truth["item_cohorts"]["10-49"]


def test_an_items_first_impressions_are_judged_by_the_truth() -> None:
    """All of it by hand; what the pipeline never predicted does not count."""
    said = [
        # Impression, shown before, rank score, prediction, truth, truth where it is looked at.
        ("v0-0", 0, 2.0, 0.3, 0.2, 0.2),
        ("v0-1", 0, 1.0, 0.2, 0.4, 0.6),
        ("v0-2", 4, 3.0, 0.4, 0.3, 0.9),
        ("v1-0", 0, 0.0, 0.1, 0.2, 0.4),
        ("v1-1", 0, 1.0, 0.5, 0.5, 0.8),
        ("v1-2", 0, 0.5, 0.2, 0.2, 0.3),
        ("v2-0", 5, 1.0, 0.2, 0.25, 0.3),
        ("v2-1", 9, 2.0, 0.6, 0.5, 0.7),
        ("v2-2", 10, 1.0, 0.2, 0.2, 0.2),
        ("v3-0", 199, 1.0, 0.2, 0.2, 0.2),
        ("v3-1", 200, 1.0, 0.2, 0.2, 0.2),
    ]
    names = ("imp_id", "item_impressions", "rank_score", "prediction", TRUTH, APPEAL)
    whole = pl.DataFrame(said, schema=names, orient="row").with_columns(
        user_impressions=0, kind=pl.lit(0, pl.Int8), label=pl.lit(0, pl.Int8), known=0, labels=0, task=0
    )
    unseen = pl.DataFrame({"imp_id": ["v0-3"], TRUTH: [0.9], APPEAL: [0.9]})
    rows = whole.select("imp_id", TRUTH, APPEAL)
    found = judge(whole.drop(TRUTH, APPEAL), [pl.concat([rows[:3], unseen]), rows[3:]])
    by_item = found["item_shown_before"]
    assert {name: of["samples"] for name, of in by_item.items()} == {
        "0": 5,
        "1-4": 1,
        "5-9": 2,
        "10-49": 1,
        "50-199": 1,
        "200+": 1,
    }
    # Of list 0, .2 is chosen of .2 and .6; of list 1, .8 of .4, .8 and .3.
    assert by_item["0"]["lists"] == 2
    assert by_item["0"]["regret"] == pytest.approx((0.4 + 0.0) / 2)
    assert by_item["0"]["random_regret"] == pytest.approx((0.2 + 0.3) / 2)
    assert by_item["0"]["reach"] == pytest.approx(1 - 0.2 / 0.25)
    assert by_item["0"]["calibration"] == pytest.approx(1.3 / 1.5)
    # The one of list 0 leaves no choice.
    nothing = {"lists": 0, "regret": None, "random_regret": None, "reach": None}
    assert by_item["1-4"].items() >= nothing.items()
    # Pairs of one that is clicked and one that is not: .5 * .75 in order, .25 * .5 not, .4375 with themselves.
    assert by_item["5-9"]["true_auc"] == pytest.approx((0.5 * 0.75 + 0.4375 / 2) / 0.9375)
    assert by_item["5-9"]["calibration"] == pytest.approx(0.8 / 0.75)
    assert by_item["5-9"]["error"] == pytest.approx(((0.05**2 + 0.1**2) / 2) ** 0.5)
    assert by_item["5-9"]["reach"] == 1.0
    # Of all, list 0 chooses .9, which is best: what was never predicted is no part of it.
    assert (found["samples"], found["lists"]) == (11, 4)
    assert found["regret"] == pytest.approx(0.0)


def test_whoever_knows_the_truth_is_not_far_from_it() -> None:
    rows = pl.concat(WorldLog(SMALL, 3, 2000).stretches())
    known = rows.select(
        "imp_id",
        prediction=pl.col(TRUTH),
        rank_score=pl.col(APPEAL),
        user_impressions=0,
        item_impressions=0,
        kind=pl.lit(0, pl.Int8),
        label=pl.lit(0, pl.Int8),
        known=0,
        labels=0,
        task=0,
    )
    found = judge(known, [rows[:900], rows[900:]])
    assert found["true_auc"] == found["best_auc"]
    assert (found["error"], found["regret"], found["calibration"]) == (0.0, 0.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.01, 0.99)), min_size=2, max_size=7))
def test_expected_auc_is_that_of_all_pairs(said: list[tuple[int, float]]) -> None:
    scores, truths = zip(*said, strict=True)
    wins = pairs = 0.0
    for i, j in product(range(len(said)), repeat=2):
        weight = truths[i] * (1 - truths[j])
        pairs += weight
        wins += weight * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    found = expected_auc(np.array(scores, float), np.array(truths))
    assert found == pytest.approx(wins / pairs)


def test_a_world_like_a_world_has_its_rates_and_tails(tmp_path: Path) -> None:
    of = msgspec.convert(
        {
            "users": {"number": 1500, "visits_per_day": 2.0, "activity": {"sigma": 1.5}, "level": 1.0},
            "items": {"number": 400, "popularity": {"sigma": 1.2}},
            "lists": {"position_bias": 0.0},
            "step_minutes": 1440,
            "outcomes": [
                {"name": "click", "base": -0.5, "of": "shown", "delay_s": 4.0},
                {"name": "like", "base": -1.5, "delay_s": 33.0},
            ],
        },
        Parameters,
    )
    found = fit_world(WorldLog(of, 1, 60_000))
    for name in ("top 5 % of users", "top 5 % of items", "click: rate", "like: rate", "like: delay, s"):
        of_log, of_world = found.figures[name]
        assert of_world == pytest.approx(of_log, rel=0.12), name
    assert found.figures["spread of users"][1] == pytest.approx(found.figures["spread of users"][0], rel=0.25)
    file = tmp_path / "fitted.toml"
    file.write_text(found.toml, encoding="utf-8")
    assert load_parameters(file) == found.parameters


@pytest.mark.parametrize(("of_users", "of_items"), [(0.3, 0.6), (0.8, 0.4)])
def test_how_much_of_taste_lies_in_attributes_is_found(of_users: float, of_items: float) -> None:
    users = {"number": 1000, "visits_per_day": 6.0, "activity": {"sigma": 0.5}, "attributes": {"a": 8, "b": 8}}
    items = {"number": 500, "popularity": {"sigma": 0.5}, "attributes": {"c": 10, "d": 12}}
    given = {
        "users": users | {"attribute_share": of_users, "turnover": 0.0},
        "items": items | {"attribute_share": of_items, "turnover": 0.0},
        "taste": {"scale": 2.0},
        "lists": {"position_bias": 0.0},
        "step_minutes": 1440,
        "outcomes": [{"name": "click", "base": -0.5, "of": "shown"}],
    }
    rows = pl.concat(WorldLog(msgspec.convert(given, Parameters), 2, 200_000).stretches())
    names = {name: f"feature.{name}" for name in "abcd"}
    found = interplay(rows.select("user_id", "item_id", label="feedback.0", **names), ["a", "b"], ["c", "d"])
    assert found.user_share == pytest.approx(of_users, abs=0.15)
    assert found.item_share == pytest.approx(of_items, abs=0.15)
