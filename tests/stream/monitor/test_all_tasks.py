"""A pipeline that learns every task: log, figures, page, scorer; and the main task stays what it is."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
import redis
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import async_playwright, expect
from support.chromium import chromium_path
from support.small_log import TASKS, small_log, with_tasks

from learner.config import HeadSettings, LearnerSettings, ModelSettings
from learner.metrics import auc, calibration, log_loss
from learner.samples.kind import SampleKind
from learner.targets import expected_values
from simulators.replay import ReplaySettings
from simulators.runs.run_backtest import run_backtest
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from stream.monitor.figures.bucket import COUNT, POSITIVE, merge
from stream.monitor.history.history import open_history, task_series
from stream.monitor.history.recorder import read_buckets, run_name
from stream.monitor.history.tasks import TaskMeters
from stream.monitor.page.health import Health
from stream.monitor.page.lookup import Lookup
from stream.monitor.page.server import Monitor
from stream.monitor.page.view import View
from stream.predictions.judged import matured, with_served
from stream.predictions.log import read_predictions
from stream.serving.scorer import Candidate, Scorer, UnknownTaskError
from stream.settings import Settings, SettingsError, load_settings
from stream.task_columns import of_task

NUM_ROWS = 3000
HOW = ReplaySettings(seed=9)
NAMES = [task.name for task in TASKS]


def settings_of(server: EmbeddedRedis, prefix: str, *given: str) -> Settings:
    own = [f"redis.url={server.url!r}", f"redis.prefix={prefix}", "kafka.partitions=2"]
    settings = with_tasks(load_settings(environment={}, overrides=own))
    # The tasks come first, as what is learned of them is checked against their names.
    learner = msgspec.convert({"tasks": "all" if "all" in given else "main"}, LearnerSettings)
    return msgspec.structs.replace(settings, learner=learner)


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis) -> Settings:
    return settings_of(redis_server, "alltasks", "all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("all")


@pytest.fixture(scope="module")
def summary(live: Settings, folder: Path) -> dict[str, Any]:
    return run_backtest(live, small_log(NUM_ROWS), HOW, folder)


@pytest.fixture(scope="module")
def log(summary: dict[str, Any], folder: Path) -> pl.DataFrame:
    return read_predictions(folder / "predictions")


def test_the_main_task_is_what_it_is_without_the_others(
    summary: dict[str, Any], log: pl.DataFrame, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    alone = run_backtest(settings_of(redis_server, "alone"), small_log(NUM_ROWS), HOW, tmp_path)
    other = read_predictions(tmp_path / "predictions")
    assert not [name for name in other.columns if ":" in name]
    assert log.select(other.columns).equals(other)
    for name in ("auc", "log_loss", "calibration", "served_auc", "cohorts"):
        assert summary[name] == alone[name]
    assert summary["counts_match"]
    assert summary["tasks"]["click"] == alone["tasks"]["click"]
    assert "log_loss" not in alone["tasks"]["buy"]


def test_the_log_has_what_was_said_of_each_task(log: pl.DataFrame) -> None:
    assert [name for name in log.columns if ":" in name] == [
        f"{what}:{name}" for name in NAMES for what in ("probability", "rank", "popularity")
    ]
    is_later = pl.col("kind") == int(SampleKind.TASK_CORRECTION)
    base = log.filter(~is_later)
    assert base["probability:click"].equals(base["prediction"].rename("probability:click"))
    for n, name in enumerate(NAMES):
        column = pl.col(f"probability:{name}")
        assert base[f"probability:{name}"].is_between(0, 1).all()
        assert log.filter(is_later & (pl.col("task") == n))[f"probability:{name}"].is_between(0, 1).all()
        assert log.filter(is_later & (pl.col("task") != n)).select(column.is_nan().all()).item()
    # They are predictions of different things.
    rates = [log[f"probability:{name}"].fill_nan(None).mean() for name in NAMES]
    assert rates == pytest.approx([0.4, 0.2, 0.44], abs=0.05)


def test_figures_of_every_task_are_those_of_its_own_predictions(summary: dict[str, Any], log: pl.DataFrame) -> None:
    for n, name in enumerate(NAMES):
        own = of_task(log, name)
        rows = with_served(matured(own, None if name == "click" else n), own)
        labels, said = rows["label"].to_numpy(), rows["prediction"].to_numpy()
        figures = summary["tasks"][name]
        assert figures["samples"] == len(rows) == NUM_ROWS
        assert figures["log_loss"] == pytest.approx(log_loss(labels, said), abs=1e-5)
        assert figures["auc"] == pytest.approx(auc(labels, said), abs=1e-5)
        assert figures["calibration"] == pytest.approx(calibration(labels, said), abs=1e-5)
        assert figures["calibration"] == pytest.approx(1.0, abs=0.06)
        assert figures["served_log_loss"] == pytest.approx(log_loss(labels, rows["served_prediction"].to_numpy()))
        assert set(figures["cohorts"]) == {"0-9", "10-49", "50-199", "200+"}


def test_cohort_figures_of_every_task_equal_an_exact_pass_over_the_log(
    live: Settings, summary: dict[str, Any], log: pl.DataFrame, folder: Path
) -> None:
    view = View(live, has_weights=False)
    for n, name in enumerate(NAMES):
        if name == "click":
            assert not read_buckets(folder, task_series(name))
            continue
        whole = merge(read_buckets(folder, task_series(name)))
        assert view.fits(whole)
        assert whole.late_labels == 0
        rows = matured(of_task(log, name), n)
        assert whole.num_samples == len(rows)
        overall = view.overall(whole)
        labels, said = rows["label"].to_numpy(), rows["prediction"].to_numpy()
        assert overall["positives"] == labels.sum()
        assert overall["log_loss"].value == pytest.approx(log_loss(labels, said), abs=1e-4)
        assert overall["calibration"].value == pytest.approx(calibration(labels, said), abs=1e-4)
        assert overall["auc"].value == pytest.approx(auc(labels, said), abs=0.01)
        cold = rows["user_impressions"].to_numpy() == 0
        assert whole.sums_CM[0, COUNT] == cold.sum()
        assert whole.sums_CM[0, POSITIVE] == labels[cold].sum()


def test_a_late_label_finds_its_negative_after_a_restart(
    live: Settings, summary: dict[str, Any], log: pl.DataFrame
) -> None:
    """Meters that only remember the log know every negative that may still turn."""
    meters = TaskMeters(live)
    before = log.filter(pl.col("sequence") <= 1500)
    meters.remember(before)
    for n, name in enumerate(NAMES):
        if name == "click":
            continue
        bit, later = 1 << n, (pl.col("kind") == int(SampleKind.TASK_CORRECTION)) & (pl.col("task") == n)
        told = before.filter((pl.col("known") & bit > 0) & (pl.col("labels") & bit == 0))
        negatives = set(told["imp_id"]) - set(before.filter(later & (pl.col("label") == 1))["imp_id"])
        assert len(negatives) > 400
        meter = meters.meters[name]
        assert all(meter._open.turn(imp_id) is not None for imp_id in negatives)
        assert meter._open.turn(told["imp_id"][0]) is None


def test_the_page_shows_the_task_that_is_chosen(
    live: Settings, summary: dict[str, Any], folder: Path, client: redis.Redis
) -> None:
    run = run_name(folder, 0)
    series = {name: task_series(name) for name in NAMES if name != "click"}
    for name in series.values():
        open_history(live, client, run, 0, 1, name).write(1, read_buckets(folder, name))
    open_history(live, client, run, 0, 1).write(1, read_buckets(folder))
    health = Health(live, client).read()["tasks"]
    assert [(row["task"], row["learned"], row["main"]) for row in health] == [
        ("click", True, True),
        ("buy", True, False),
        ("watch", True, False),
    ]

    async def asked() -> dict[str, Any]:
        monitor = Monitor(
            msgspec.structs.replace(live, monitor=msgspec.structs.replace(live.monitor, twin_share=0.0)), client, folder
        )
        async with TestClient(TestServer(monitor.app())) as page:
            answers = {}
            for task in ("", *NAMES, "like"):
                answer = await page.get("/api/view", params={"run": run, "task": task})
                answers[task] = {"status": answer.status, **await answer.json()}
            return answers

    views = asyncio.run(asked())
    assert views["like"]["status"] == 404
    assert "task 'like' has no figures by cohort" in views["like"]["error"]
    assert views[""]["whole"] == views["click"]["whole"]
    for name in NAMES:
        figures = {row["cohort"]: row for row in views[name]["whole"]}
        assert figures["all"]["samples"] == summary["tasks"][name]["samples"]
        assert figures["all"]["log_loss"]["value"] == pytest.approx(summary["tasks"][name]["log_loss"], abs=1e-3)
        assert bool(views[name]["weights"]) is (name == "click")


@pytest.mark.slow
def test_the_page_has_a_choice_of_tasks(
    live: Settings, summary: dict[str, Any], folder: Path, client: redis.Redis
) -> None:
    executable = chromium_path()
    run = run_name(folder, 0)
    open_history(live, client, run, 0, 1).write(1, read_buckets(folder))
    open_history(live, client, run, 0, 1, task_series("buy")).write(1, read_buckets(folder, task_series("buy")))

    async def looked() -> None:
        monitor = Monitor(live, client, folder)
        async with TestClient(TestServer(monitor.app())) as server, async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
            )
            page = await browser.new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(str(server.make_url("/")))
            choice, shown = page.locator("#task"), page.locator("#now tbody tr").first
            await expect(choice).to_be_visible(timeout=15_000)
            assert await choice.locator("option").all_inner_texts() == NAMES
            assert await choice.input_value() == "click"
            await page.select_option("#over", "whole")
            positives = {}
            for name in ("click", "buy"):
                await page.select_option("#task", name)
                rate = summary["tasks"][name]["base_rate"]
                positives[name] = f"{round(rate * NUM_ROWS):,}"
                await expect(shown).to_contain_text(positives[name], timeout=15_000)
            assert positives["click"] != positives["buy"]
            await browser.close()
            assert complaints == []

    asyncio.run(looked())


def test_a_scorer_gives_the_probability_of_every_task(live: Settings, summary: dict[str, Any]) -> None:
    scorer = Scorer(live, connect(live.redis))
    assert scorer.tasks == tuple(NAMES)
    candidates = [Candidate(f"i{n}") for n in range(5)]
    by_task = scorer.score_tasks("u1", {}, candidates)
    assert list(by_task) == NAMES
    for name, scores in by_task.items():
        np.testing.assert_array_equal(scorer.score("u1", {}, candidates, name), scores)
        ranks = scorer.scores("u1", {}, candidates, name).ranks_B
        assert np.corrcoef(ranks, scores)[0, 1] > 0.5
    np.testing.assert_array_equal(scorer.score("u1", {}, candidates), by_task["click"])
    assert np.abs(by_task["click"] - by_task["buy"]).max() > 0.05
    with pytest.raises(UnknownTaskError, match=r"'like'.*\['click', 'buy', 'watch'\]"):
        scorer.score("u1", {}, candidates, "like")


def test_a_user_is_looked_up_in_files_with_and_without_columns_by_task(
    live: Settings, log: pl.DataFrame, client: redis.Redis, tmp_path: Path
) -> None:
    plain = log.select([name for name in log.columns if ":" not in name])
    (tmp_path / "predictions").mkdir()
    for number, frame in enumerate((plain, log, plain), 1):
        frame.write_parquet(tmp_path / "predictions" / f"{number:012d}.parquet")
    rows = Lookup(live, client, tmp_path)._rows("u1")
    assert len(rows) == 3 * len(plain.filter(pl.col("user_id") == "u1"))
    assert len(read_predictions(tmp_path / "predictions")) == 3 * len(log)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["join.negative_rate=0.5"], "impressions are left out by the main task's label"),
        (["model.fast=false", "model.deep=fm", "tasks=[{name='a',positive=['x']},{name='b',positive=['y']}]"], "heads"),
        (["learner.balance.weights={like=1.0,buy=2.0}"], r"learner.balance.weights names \['buy'\]"),
        (["model.heads.kind=snr"], "layers >= 2"),
        (["tasks=[{name='a',positive=['x'],value_unit=3.0}]"], "must not be the main task, and have one action"),
        (["tasks=[{name='a',positive=['x']},{name='b',positive=['x','y'],value_unit=3.0}]"], r"by \['x', 'y'\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(environment={}, overrides=["learner.tasks=all", "actions.names=['like','x','y']", *given])


@pytest.mark.parametrize("join", [{"mode": "immediate"}, {"early_positives": True}, {"settle_ms": 900_000}])
def test_which_labels_turn_is_told_as_the_join_decides_it(
    join: dict[str, Any], redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A label taken for a turned one would find no negative; one taken for a first one would be one sample more."""
    settings = settings_of(redis_server, f"join-{'-'.join(join)}", "all")
    settings = msgspec.structs.replace(settings, join=msgspec.structs.replace(settings.join, **join))
    summary = run_backtest(settings, small_log(1200), HOW, tmp_path)
    assert summary["counts_match"], summary["count_differences"]
    view = View(settings, has_weights=False)
    for n, name in enumerate(NAMES):
        if name == "click":
            continue
        whole = merge(read_buckets(tmp_path, task_series(name)))
        rows = matured(read_predictions(tmp_path / "predictions"), n)
        assert whole.late_labels == 0
        assert whole.num_samples == len(rows) == 1200
        assert view.overall(whole)["positives"] == rows["label"].sum()


def test_a_value_is_learned_through_the_pipeline(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = settings_of(redis_server, "values", "all")
    watch = msgspec.structs.replace(TASKS[2], positive=("watch",), value_unit=40.0)
    settings = msgspec.structs.replace(settings, tasks=(*TASKS[:2], watch))
    summary = run_backtest(settings, small_log(2000), HOW, tmp_path)
    assert summary["counts_match"], summary["count_differences"]
    # It is ranked by, and has no probability to be held against labels.
    assert "log_loss" in summary["tasks"]["buy"]
    assert "log_loss" not in summary["tasks"]["watch"]
    assert not read_buckets(tmp_path, task_series("watch"))
    scorer = Scorer(settings, connect(settings.redis))
    features = {"age": "1", "domain": "feed"}
    candidates = [Candidate(f"i{n}", {"genre": f"g{n % 5}"}) for n in range(35)]
    served = np.array([scorer.score_tasks(f"u{n}", features, candidates)["watch"].mean() for n in range(40)])
    log = read_predictions(tmp_path / "predictions").filter(pl.col("kind") <= int(SampleKind.POSITIVE))
    learned = expected_values(log["probability:watch"].to_numpy().astype(np.float64), settings.recipe.tasks[2])
    # 30 % are watched, four in five of these with a value, 40 s on average; those without one teach nothing.
    for seconds in (learned[-1000:], served):
        assert seconds.mean() == pytest.approx(0.24 * 40 / 0.94, rel=0.25)


def test_a_deep_part_with_heads_runs_through_the_pipeline(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = settings_of(redis_server, "heads", "all")
    model = ModelSettings(deep="fm", dim=4, heads=HeadSettings(kind="mmoe", expert_width=8))
    summary = run_backtest(msgspec.structs.replace(settings, model=model), small_log(600), HOW, tmp_path)
    assert summary["counts_match"], summary["count_differences"]
    assert all(0.5 < figures["log_loss"] < 0.8 for figures in summary["tasks"].values())
    scorer = Scorer(msgspec.structs.replace(settings, model=model), connect(settings.redis))
    assert list(scorer.score_tasks("u1", {}, [Candidate("i1")])) == NAMES
