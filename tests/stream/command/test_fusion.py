"""Weights of one ranking score, searched on the prediction log of a run."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from support.small_log import TASKS, small_log, with_tasks

from learner.config import LearnerSettings
from learner.samples.kind import SampleKind
from simulators.replay import ReplaySettings
from simulators.runs.run_backtest import run_backtest
from state_store.embedded.redis import EmbeddedRedis
from stream.command.fusion import NoTaskScoresError, described, outcomes_of, rounds_of, search_weights
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.settings import Settings, SettingsError, load_settings

NAMES = [task.name for task in TASKS]
NUM_ROWS = 2000


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis) -> Settings:
    given = [f"redis.url={redis_server.url!r}", "redis.prefix=fusion", "kafka.partitions=2"]
    settings = with_tasks(load_settings(environment={}, overrides=given))
    return msgspec.structs.replace(settings, learner=LearnerSettings(tasks="all"))


@pytest.fixture(scope="module")
def folder(live: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    run_backtest(live, small_log(NUM_ROWS), ReplaySettings(seed=9), folder)
    return folder


def test_outcomes_are_what_was_served_and_what_came_of_it(live: Settings, folder: Path) -> None:
    log = read_predictions(folder / "predictions")
    outcomes = outcomes_of(log, live.labels)
    assert len(outcomes.ts_N) == NUM_ROWS
    assert (np.diff(outcomes.ts_N) >= 0).all()
    shown = log.filter(pl.col("kind") == int(SampleKind.SHOWN)).sort("ts", maintain_order=True)
    for n, name in enumerate(NAMES):
        np.testing.assert_allclose(outcomes.predictions_NT[:, n], shown[f"probability:{name}"].to_numpy())
        final = dict(matured(log, None if name == "click" else n).select("imp_id", "label").iter_rows())
        assert outcomes.labels_NT[:, n].tolist() == [final[imp_id] for imp_id in shown["imp_id"]]
    # A list is of one user, and of one day.
    days_N = outcomes.ts_N // 86_400_000
    pairs = set(zip(outcomes.users_N.tolist(), days_N.tolist(), strict=True))
    lists = set(zip(outcomes.users_N.tolist(), days_N.tolist(), outcomes.lists_N.tolist(), strict=True))
    assert len(pairs) == len(lists) == len(set(outcomes.lists_N.tolist()))


def test_stretches_cover_the_log_once(live: Settings, folder: Path) -> None:
    outcomes = outcomes_of(read_predictions(folder / "predictions"), live.labels)
    parts = list(rounds_of(outcomes, 0.1))
    assert len(parts) == 6
    np.testing.assert_array_equal(np.concatenate([part.ts_N for part in parts]), outcomes.ts_N)
    assert all(part.ts_N[-1] - part.ts_N[0] < 360_000 for part in parts)


def test_a_search_says_what_each_round_came_to(live: Settings, folder: Path) -> None:
    fusion = {"generations": 3, "population": 8, "least_lists": 5, "worth": {"buy": 10.0, "click": 1.0, "watch": 0.5}}
    settings = msgspec.structs.replace(live, fusion=msgspec.convert(fusion, type(live.fusion)))
    rounds = search_weights(folder, settings, 0.2)
    assert len(rounds) == 3
    for one in rounds:
        assert list(one.weights) == NAMES
        assert sum(one.weights.values()) == pytest.approx(1.0)
        assert 0 < one.reward < 1
        assert 20 < one.num_lists <= 40
    lines = described(rounds)
    assert lines[0].startswith(f"round 1: reward {rounds[0].reward:.4f} on {rounds[0].num_lists} lists; click 0.")
    assert msgspec.to_builtins(search_weights(folder, settings, 0.2)) == msgspec.to_builtins(rounds)


def test_a_run_of_the_main_task_alone_has_nothing_to_fuse(live: Settings, folder: Path) -> None:
    log = read_predictions(folder / "predictions")
    alone = log.select([name for name in log.columns if not name.endswith(":buy")])
    with pytest.raises(NoTaskScoresError, match=r"no probability of \['buy'\].*set learner.tasks=all"):
        outcomes_of(alone, live.labels)


def test_tasks_that_there_are_not_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"fusion.worth names \['buy'\]; the tasks are \['like'\]"):
        load_settings(environment={}, overrides=["fusion.worth={buy=1.0}"])


def test_a_folder_without_predictions_is_named(live: Settings, tmp_path: Path) -> None:
    with pytest.raises(NoTaskScoresError, match=rf"{tmp_path}: there are no logged predictions; give the folder"):
        search_weights(tmp_path, live, 1.0)
