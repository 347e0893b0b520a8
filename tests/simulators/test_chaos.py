"""Fault injection, the short version of `coldstream chaos`."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.logs import movielens_or_synthetic
from support.small_log import small_log, with_tasks
from support.ways import read_both_ways

from learner.config import HistorySettings
from simulators.logs.log import Log
from simulators.replay import ReplaySettings
from simulators.runs.chaos import Chaos, ChaosSettings
from stream.kafka.topics import ensure_topics
from stream.settings import Settings

pytestmark = pytest.mark.slow


@read_both_ways(plain_on="embedded")
def test_whatever_is_killed_the_totals_are_those_of_an_offline_pass(
    settings: Settings, broker: str, tmp_path: Path, long: bool
) -> None:
    with_monitor = settings.worker.consumer == "coalescing"
    kill(settings, broker, ChaosSettings(kills=30 if long else 5, seed=11, monitor=with_monitor), tmp_path)


def test_dropped_negatives_are_the_same_whatever_is_killed(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    join = msgspec.structs.replace(settings.join, negative_rate=0.3, negative_rate_from=20)
    sampled = msgspec.structs.replace(settings, join=join)
    kill(sampled, embedded_broker, ChaosSettings(kills=4, seed=13, monitor=False), tmp_path)


def test_workers_that_come_and_go_under_load_lose_and_double_nothing(
    settings: Settings, broker: str, tmp_path: Path, long: bool
) -> None:
    """Each time one of three leaves, by SIGTERM, SIGKILL or SIGSTOP, and comes back; the learner dies now and then.

    What users liked is kept, too, and loses and doubles nothing either.
    """
    action = settings.actions.names[0]
    histories = (HistorySettings("any", (action,), length=5), HistorySettings("by_decade", (action,), by="decade"))
    settings = msgspec.structs.replace(settings, histories=histories)
    kill(settings, broker, ChaosSettings(kills=20 if long else 5, workers=3, seed=12, monitor=False), tmp_path)


def test_a_group_of_learners_of_which_one_is_killed_loses_and_doubles_nothing(
    settings: Settings, embedded_broker: str, tmp_path: Path, long: bool
) -> None:
    """Among what real clusters do to it."""
    chaos = ChaosSettings(kills=40 if long else 7, processes=2, seed=14, weather=True, monitor=False)
    report = kill(settings, embedded_broker, chaos, tmp_path)
    assert any(death.startswith("learner: ") for death in report["deaths"])
    assert any(":" not in incident for incident in report["deaths"])


def test_what_real_clusters_do_changes_nothing(
    settings: Settings, broker: str, tmp_path: Path, long: bool, request: pytest.FixtureRequest
) -> None:
    """Refusals, hangs, a full disk, a second learner; on Apache Kafka transactions, codecs and retention, too."""
    on_apache = request.node.callspec.params["broker"] == "apache"
    chaos = ChaosSettings(kills=120 if long else 14, seed=15, weather=True, monitor=long)
    report = kill(settings, broker, chaos, tmp_path, on_apache=on_apache)
    assert sum(count for name, count in report["deaths"].items() if ":" not in name) >= 5


def test_labels_of_several_tasks_are_the_same_whatever_is_killed(
    settings: Settings, embedded_broker: str, tmp_path: Path
) -> None:
    log = small_log(10_000)
    report = kill(with_tasks(settings), embedded_broker, ChaosSettings(kills=4, seed=14), tmp_path, log)
    assert report["totals"]["trained_task_correction"][0] > 1000


def kill(
    settings: Settings,
    broker: str,
    chaos: ChaosSettings,
    folder: Path,
    log: Log | None = None,
    *,
    on_apache: bool = False,
) -> dict[str, Any]:
    partitions = 2 * chaos.workers
    live = msgspec.structs.replace(
        settings, kafka=msgspec.structs.replace(settings.kafka, url=broker, partitions=partitions)
    )
    ensure_topics(live.kafka)
    log = log or movielens_or_synthetic(10_000, seed=1)
    report = Chaos(live, log, ReplaySettings(num_rows=10_000), chaos, folder, on_apache=on_apache).run()
    assert report["equal"], (report["checks"], report["totals"], report["count_differences"])
    assert report["kills"] >= chaos.kills
    return report
