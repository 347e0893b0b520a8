"""Dashboard and alert rules: what they ask for is what the monitor exports, and Prometheus' own tools accept them."""

import json
import re
import shutil
import subprocess
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from support.logs import synthetic_log
from support.served import drawn, fed

from learner.sif.usage import CodeUsage
from simulators.replay import ReplaySettings
from simulators.runs.backtest import BacktestSettings
from simulators.runs.run_backtest import run_backtest
from state_store.records import Span
from state_store.resident import resident_bytes
from stream.events import Event, Feedback, Heartbeat, Impression, encode_event
from stream.ingest.rows import LogRecord
from stream.ingest.stage import Ingest, ZombieError
from stream.monitor.history.recorder import read_buckets
from stream.monitor.page.health import Health
from stream.monitor.page.view import View
from stream.monitor.prometheus import exposition
from stream.monitor.served.meter import ServedMeter
from stream.process.status import CanaryStatus, LearnerStatus
from stream.process.store import open_store
from stream.process.weather import Condition
from stream.serving.web.figures import Counted, Figures
from stream.serving.web.routes import NAMES
from stream.settings import Settings, load_settings

DOCKER = Path(__file__).parents[3] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "coldstream.json").read_text())
RULES = (DOCKER / "prometheus" / "alerts.yaml").read_text()
RULE_TESTS = (DOCKER / "prometheus" / "alerts_test.yaml").read_text()
T0 = 1_700_000_000_000

Rows = dict[str, list[dict[str, str]]]


# What a scrape gives ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a backtest whose twin scores everything, with weights an hour old."""
    folder = tmp_path_factory.mktemp("run")
    settings = load_settings(environment={}, overrides=["monitor.twin_share=1", "monitor.twin_age_h=1"])
    rounds = BacktestSettings(publish_samples=1000)
    run_backtest(settings, synthetic_log(6000, seed=2), ReplaySettings(), folder, rounds)
    served = fed(ServedMeter(settings.monitor, len(settings.fields)), *drawn())
    return View(settings).show(read_buckets(folder), read_buckets(folder, "twin"), served)


class Worker:
    """Ingest on a real Redis, which reports as a worker does."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self.settings = settings
        self.store = open_store(settings, client)
        self._dead: list = []
        self.ingest = Ingest(self.store, settings.fields, settings.actions, settings.events, self._dead.extend)
        for partition in range(settings.kafka.partitions):
            self.ingest.assign(partition)

    def feed(self, topic: int, offset: int, *events: Event | bytes) -> None:
        values = [e if isinstance(e, bytes) else encode_event(e) for e in events]
        records = [LogRecord(offset + i, value, 0) for i, value in enumerate(values)]
        name = self.settings.topics[topic]
        first = self.ingest.applied[name, 0] + 1
        # Offsets that are left out were gone from the log.
        span = Span(first, records[-1].offset, offset - first)
        self.ingest.process(name, 0, records, now_ms=T0 + 10**8, span=span)

    def report(self) -> None:
        partitions = list(range(self.settings.kafka.partitions))
        report = {
            "time_ms": time.time_ns() // 1_000_000,
            "partitions": partitions,
            "records": 8,
            "waits": 0,
            "outcomes": dict(self.ingest.outcomes),
            "resident_bytes": resident_bytes(),
            "lag": {f"{topic}/{p}": 0 for topic in self.settings.topics for p in partitions},
        }
        self.store.client.hset(self.store.keys.worker_status, "one", msgspec.json.encode(report))


def work(worker: Worker) -> None:
    """Everything that may happen to a join and to a fence."""
    join = worker.settings.join
    impression = Impression(imp_id="a", user_id="u", item_id="i", ts=T0, features={})
    feedback = Feedback(imp_id="a", user_id="u", item_id="i", action="like", ts=T0 + 1000)
    end = Heartbeat(ts=T0 + 2 * (join.attribution_ms + join.lateness_ms))
    worker.feed(0, 0, impression)
    worker.feed(0, 0, impression)
    worker.feed(1, 0, feedback, msgspec.structs.replace(feedback, imp_id="never shown"), b"no event", end)
    worker.feed(0, 3, end, msgspec.structs.replace(impression, imp_id="late"))
    Worker(worker.settings, worker.store.client)
    with pytest.raises(ZombieError):
        worker.feed(0, 5, end)
    worker.report()


def report_learner(settings: Settings, client: redis.Redis) -> None:
    now_ms = time.time_ns() // 1_000_000
    status = LearnerStatus(
        time_ms=now_ms,
        num_trained=6000,
        num_by_kind=[3000, 2900, 100],
        cursor={"0": 6000},
        version=3,
        published_ms=now_ms - 1500,
        held_back="",
        auc=0.7,
        log_loss=0.6,
        calibration=1.0,
        freshness_p50_s=1.5,
        freshness_p99_s=4.0,
        rows=900,
        resident_bytes=resident_bytes(),
        step_s=0.01,
        step_max_s=0.04,
        waits=[Condition("publish", "redis refuses (OOM): Redis is full", now_ms - 5000, 4)],
        waited_s={"publish": 5.0},
        canary=CanaryStatus(120, 1000, 6.2, {"log_loss": 0.4, "too_high": 0.0}),
        codes=CodeUsage(3, 16, 11.5, 4.25, 0.125, 0.03),
    )
    keys = open_store(settings, client).keys
    client.set(keys.learner_status, msgspec.json.encode(status))


@pytest.fixture
def scrape(view: dict[str, Any], settings: Settings, client: redis.Redis) -> str:
    work(Worker(settings, client))
    report_learner(settings, client)
    health = Health(settings, client).read()
    assert health["missing"] == []
    return exposition(view, health).decode() + scrape_of_a_scorer()


def scrape_of_a_scorer() -> str:
    now = {
        **dict.fromkeys(("swaps", "version", "pinned", "stable"), 3),
        "ready": True,
        "refused": "",
        "arms": {"rival": 3},
        "created_ms": time.time_ns() // 1_000_000,
    }
    figures = Figures(lambda: now, lambda: (1, 2, 3, 4, 5), Counted(NAMES))
    figures.answered("/v1/score", 200, 0.004)
    return figures.exposition().decode()


@pytest.fixture
def exported(scrape: str) -> Rows:
    """Labels of each series, by metric."""
    rows: Rows = defaultdict(list)
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            rows[sample.name].append(sample.labels)
    return rows


# What is asked of it ------------------------------------------------------------------------------------------------


def queries() -> list[tuple[str, str, str]]:
    """Where a query stands, the query, and the text that names labels of its result."""
    found = [(f"annotation {a['name']}", a["expr"], "") for a in DASHBOARD["annotations"]["list"]]
    for panel in DASHBOARD["panels"]:
        found += [(panel["title"], target["expr"], target["legendFormat"]) for target in panel.get("targets", [])]
    for alert in RULES.split("- alert: ")[1:]:
        name, body = alert.split("\n", 1)
        found.append((name, *body.split("annotations:")))
    return found


def selectors(query: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Metric, and its matchers: label, operator, value."""
    found = re.findall(r"(coldstream_\w+)(?:\{(.*?)\})?", query)
    return [(name, re.findall(r'(\w+)(=~|!~|!=|=)"(.*?)"', matchers)) for name, matchers in found]


def is_met(row: dict[str, str], label: str, operator: str, value: str) -> bool:
    if label not in row:
        return False
    equal = re.fullmatch(value, row[label]) is not None if "~" in operator else row[label] == value
    return equal != operator.startswith("!")


def unmet(exported: Rows, query: str) -> list[str]:
    """Selectors of a query that find no series; where a pattern lists values, one for each of them."""
    missing = []
    for name, matchers in selectors(query):
        listed = [value for _, operator, values in matchers if operator == "=~" for value in values.split("|")]
        if not any(all(is_met(row, *matcher) for matcher in matchers) for row in exported[name]):
            missing.append(f"{name} {matchers}")
        missing += [f"{name} {v}" for v in listed if not any(v in row.values() for row in exported[name])]
    return missing


def test_what_dashboard_and_rules_ask_for_is_exported(exported: Rows) -> None:
    asked = queries()
    assert len(asked) > 50
    for where, query, _ in asked:
        assert selectors(query), where
        assert unmet(exported, query) == [], where


def test_how_codes_are_used_is_exported(exported: Rows) -> None:
    assert {row["of"] for row in exported["coldstream_code_perplexity"]} == {"mean", "least"}
    assert len(exported["coldstream_code_dead_share"]) == len(exported["coldstream_code_moved_share"]) == 1


def test_labels_of_legends_and_summaries_are_exported(exported: Rows) -> None:
    checked = 0
    for where, query, said in queries():
        labels = set(re.findall(r"\{\{(\w+)\}\}", said)) | set(re.findall(r"\$labels\.(\w+)", said))
        name, _ = selectors(query)[0]
        for row in exported[name]:
            assert labels <= row.keys(), (where, name)
        checked += len(labels)
    assert checked > 30


def test_a_query_for_what_is_not_exported_is_told(exported: Rows) -> None:
    assert unmet(exported, 'coldstream_cohort_ne{dimension="user", cohort="0"} > 1') == []
    assert unmet(exported, "rate(coldstream_cohort_nes[1m])") == ["coldstream_cohort_nes []"]
    assert unmet(exported, 'coldstream_fence_total{outcome=~"GAP|HOLE"}') == ["coldstream_fence_total HOLE"]
    for matcher in ('role="worker"', 'role!="worker"', 'role=~".+"'):
        assert unmet(exported, f"coldstream_ready{{{matcher}}}"), matcher
    for matcher in ('kind="lost"', 'kind!~".*"', 'kind="gap", topic="impressions"'):
        assert unmet(exported, f"coldstream_join_total{{{matcher}}}"), matcher


def test_what_may_fall_is_no_counter(view: dict[str, Any], settings: Settings, client: redis.Redis) -> None:
    health = Health(settings, client).read() | {"counts": {"dropped": 3, "negative": 5}}
    said = exposition({**view, "unscored": 2}, health).decode()
    assert "coldstream_dropped_negatives 3.0" in said
    assert 'kind="dropped"' not in said
    assert 'coldstream_join_total{kind="negative"} 5.0' in said
    assert "coldstream_unscored_total 2.0" in said


# The dashboard ------------------------------------------------------------------------------------------------------


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    for one, other in combinations(panels, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    assert overlap({"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 11, "y": 7, "w": 12, "h": 8})


def test_every_panel_says_how_to_read_it() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["source"]
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in {"short", "s", "bytes", "percentunit"}, panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${source}"}, panel["title"]


# Prometheus' tools --------------------------------------------------------------------------------------------------


def promtool(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    executable = shutil.which("promtool")
    if executable is None:
        pytest.skip("no promtool on the PATH (Debian: apt-get install prometheus; or prometheus.io/download)")
    return subprocess.run(
        [executable, *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("command", "file"),
    [("check rules", "alerts.yaml"), ("test rules", "alerts_test.yaml"), ("check config", "prometheus.yaml")],
)
def test_promtool_accepts(command: str, file: str) -> None:
    told = promtool(*command.split(), str(DOCKER / "prometheus" / file))
    assert told.returncode == 0, told.stdout + told.stderr


def test_promtool_finds_nothing_to_lint_in_a_scrape(scrape: str) -> None:
    told = promtool("check", "metrics", given=scrape)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_every_alert_is_tested_both_ways_and_has_a_severity() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES)
    assert len(alerts) == len(set(alerts)) > 10
    assert len(re.findall(r"labels: \{severity: (?:warning|critical)\}", RULES)) == len(alerts)
    cases = re.findall(r"- alertname: (\w+).*\n +eval_time: .*\n +exp_alerts:(.*)\n", RULE_TESTS)
    assert {name for name, expected in cases if expected == " []"} == set(alerts)
    assert {name for name, expected in cases if expected != " []"} == set(alerts)
