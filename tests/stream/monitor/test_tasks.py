"""Tasks by name: in the summary, the report, the pipeline's health, the metrics and what doctor says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from support.small_log import TASKS, small_log, with_tasks

from learner.metrics import auc
from simulators.oracle import Expected, Record, expect
from simulators.replay import Replay, ReplaySettings
from simulators.runs.run_backtest import run_backtest
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from stream.command.doctor import examine
from stream.monitor.page.health import Health
from stream.monitor.page.report import write_report
from stream.monitor.prometheus import exposition
from stream.predictions.judged import matured
from stream.predictions.log import read_predictions
from stream.serving.scorer import Candidate, Scorer, UnknownTaskError
from stream.settings import Settings, load_settings

NUM_ROWS = 4000
HOW = ReplaySettings(seed=9)


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis) -> Settings:
    given = [f"redis.url={redis_server.url!r}", "redis.prefix=tasks", "kafka.partitions=2"]
    return with_tasks(load_settings(environment={}, overrides=given))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def summary(live: Settings, folder: Path) -> dict[str, Any]:
    return run_backtest(live, small_log(NUM_ROWS), HOW, folder)


@pytest.fixture(scope="module")
def expected(live: Settings) -> Expected:
    """What the log must lead to, from its records alone."""
    replay = Replay(small_log(NUM_ROWS), HOW, live.kafka.partitions, live.join, live.horizon_ms)
    records = [Record(entry.topic, entry.partition, n, entry.value) for n, entry in enumerate(replay.whole_log())]
    return expect(records, live.join, live.actions, live.tasks)


def test_figures_of_every_task_are_those_of_its_final_labels(
    summary: dict[str, Any], expected: Expected, folder: Path
) -> None:
    assert summary["counts_match"], summary["count_differences"]
    assert list(summary["tasks"]) == [task.name for task in TASKS]
    assert summary["task"] == "click"
    scores = dict(matured(read_predictions(folder / "predictions")).select("imp_id", "prediction").iter_rows())
    for name, figures in summary["tasks"].items():
        labels = expected.labels[name]
        ids = sorted(labels)
        assert figures["samples"] == len(ids)
        assert figures["base_rate"] == pytest.approx(np.mean([labels[i] for i in ids]), abs=1e-6)
        exact = auc(np.array([labels[i] for i in ids]), np.array([scores[i] for i in ids]))
        assert figures["auc"] == pytest.approx(exact, abs=1e-5)
        assert sum(row["samples"] for row in figures["cohorts"].values()) == len(ids)
        assert ("log_loss" in figures) is (name == "click"), "only what is learned has a probability"


def test_page_metrics_and_doctor_speak_of_tasks_by_name(
    live: Settings, summary: dict[str, Any], expected: Expected, client: redis.Redis
) -> None:
    health = Health(live, client).read()
    rows = {row["task"]: row for row in health["tasks"]}
    assert [row["learned"] for row in health["tasks"]] == [True, False, False]
    for name, row in rows.items():
        for count in ("positive", "negative", "unknown", "late_positive", "late_negative", "correction"):
            assert row[count] == expected.counts[f"{count}:{name}"]
        final = np.mean(list(expected.labels[name].values()))
        assert (row["rate"], row["waiting"]) == (pytest.approx(final), 0)
    assert rows["watch"]["late_positive"] > 100
    view = {"now": [], "faded": [], "weights": [], "series": None, "twin": None}
    text = exposition(view, health).decode()
    assert f'coldstream_labels_total{{label="late_positive",task="watch"}} {rows["watch"]["late_positive"]:.1f}' in text
    assert 'coldstream_task_learned{task="click"} 1.0' in text
    assert 'coldstream_task_learned{task="buy"} 0.0' in text
    assert not re.search(r'coldstream_join_total\{kind="[a-z_]+:', text)
    said = {finding.subject: finding.detail for finding in examine(live)}
    assert "learned" in said["task click"]
    assert f"{rows['buy']['rate']:.1%} of the labels are positive" in said["task buy"]


def test_a_report_has_the_figures_of_every_task(live: Settings, summary: dict[str, Any], folder: Path) -> None:
    html = write_report(live, folder)[0].read_text()
    shown = json.loads(re.search(r"window\.REPORT = (\{.*?\});</script>", html, re.DOTALL)[1])
    assert {row["task"]: row["auc"] for row in shown["tasks"]} == {
        name: row["auc"] for name, row in summary["tasks"].items()
    }


def test_a_scorer_names_the_tasks_that_it_scores(live: Settings, summary: dict[str, Any]) -> None:
    scorer = Scorer(live, connect(live.redis))
    assert scorer.tasks == ("click",)
    by_name = scorer.score("u1", {}, [Candidate("i1")], task="click")
    assert by_name.tolist() == scorer.score("u1", {}, [Candidate("i1")]).tolist()
    with pytest.raises(UnknownTaskError, match=r"'buy'.*\['click'\]"):
        scorer.score("u1", {}, [Candidate("i1")], task="buy")
