"""The monitor's page in a real browser, over a pipeline that runs."""

import json
import os
import re
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from support.chromium import chromium_path
from support.load import Load
from support.logs import first_user, synthetic_log
from support.served import NUM, drawn
from support.web import fetch

from learner.parts import weight_names
from simulators.replay import ReplaySettings
from simulators.runs.run_backtest import run_backtest
from state_store.embedded.child import free_port
from stream.command.roles import Role, wait_until
from stream.kafka.topics import ensure_topics
from stream.monitor.history.history import SERVED
from stream.monitor.history.recorder import Recorder, read_buckets
from stream.monitor.page.report import write_report
from stream.monitor.served.meter import ServedMeter
from stream.settings import Settings, load_settings

pytestmark = pytest.mark.slow

T0 = 1_700_000_000_000


@pytest.fixture
def browser() -> Iterator[Browser]:
    executable = chromium_path()
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=flags)
        yield running
        running.close()


def keep(page: Page, name: str) -> None:
    """A screenshot for whoever looks at the build."""
    folder = Path(os.environ.get("SCREENSHOTS", "runs/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(folder / f"{name}.png"), full_page=True)


@pytest.fixture
def live(settings: Settings, embedded_broker: str) -> Settings:
    live = msgspec.structs.replace(
        settings,
        kafka=msgspec.structs.replace(settings.kafka, url=embedded_broker),
        monitor=msgspec.structs.replace(
            settings.monitor, port=free_port(), bucket_s=1.0, twin_share=0.5, twin_age_h=0.5
        ),
    )
    ensure_topics(live.kafka)
    return live


def open_page(browser: Browser, url: str, **options: object) -> tuple[Page, list[str]]:
    """A page, and what its console complains of."""
    page = browser.new_page(**options)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    expect(page.locator("#series .scatterlayer .trace").first).to_be_attached(timeout=15_000)
    return page, complaints


def check_live_page(page: Page, load: Load, parts: Sequence[str]) -> None:
    expect(page.locator("#state")).to_have_text("every role reports")
    learned = page.locator("#health div", has_text="samples learned").locator("dd")
    before = learned.inner_text()
    load.go_on()
    expect(learned).not_to_have_text(before, timeout=15_000)
    assert page.locator("#now tbody tr").count() == 17
    kinds = page.locator("#health div", has_text="Redis memory by kind").locator("dd")
    expect(kinds).to_have_text(re.compile(r"users (about )?[\d.]+ [KMG]iB"), timeout=20_000)
    each = page.locator("#health div", has_text="bytes per user").locator("dd")
    expect(each).to_have_text(re.compile(r"^(about )?[\d,]+ / (about )?[\d,]+$"))
    page.select_option("#metric", "rank_uauc")
    expect(page.locator("#series .gtitle")).to_contain_text("UAUC of the rank score")
    page.select_option("#metric", "calibration")
    expect(page.locator("#series .gtitle")).to_have_text("calibration")
    page.select_option("#dimension", "item")
    page.select_option("#points", "1")
    page.select_option("#axis", "day")
    expect(page.locator("#series .legendtext").first).to_contain_text("20")
    page.select_option("#over", "faded")
    expect(page.locator("#now caption")).to_contain_text("counts half after")
    assert page.locator("#features tbody tr").count() == 11
    expect(page.locator("#twin-cohorts .scatterlayer .trace").first).to_be_attached(timeout=30_000)
    expect(page.locator("#twin-said")).to_contain_text("on the same")
    # By keyboard alone.
    page.locator("#user").focus()
    page.keyboard.type(first_user(load.log))
    page.keyboard.press("Enter")
    expect(page.locator("#found dd").first).to_be_visible()
    assert page.locator("#found table tr").count() > 1
    said = page.locator("#found").inner_text()
    for part in (*parts, "state"):
        assert f"{part}, weighed" in said, said


def test_the_page_shows_a_running_pipeline(live: Settings, browser: Browser, tmp_path: Path) -> None:
    # The last of it comes when the page stands: it is to show that something is learned.
    load = Load(live, 80_000, seed=31, events_per_s=10_000, hold_at=60_000)
    url = f"http://127.0.0.1:{live.monitor.port}"
    with Role("monitor", live, tmp_path) as monitor, Role("worker", live, tmp_path) as worker:
        wait_until(lambda: "http://" in monitor.log.read_text(), "the monitor", [monitor])
        assert fetch(url + "/healthz")[0] == 200
        status, said = fetch(url + "/readyz")
        assert status == 503
        assert "no learner has reported" in said
        with Role("learner", live, tmp_path) as learner:
            roles = [monitor, worker, learner]
            load.start()
            wait_until(lambda: fetch(url + "/readyz")[0] == 200, "the pipeline to be ready", roles)
            wait_until(lambda: len(read_buckets(tmp_path)) > 1, "the first figures", roles)
            page, complaints = open_page(browser, url)
            check_live_page(page, load, weight_names(live.recipe))
            assert complaints == []
            keep(page, "monitor-light")
            page.locator("#user").fill("nobody")
            page.keyboard.press("Enter")
            expect(page.locator("#found")).to_have_text("user 'nobody' has never been seen")
            phone, _ = open_page(browser, url, color_scheme="dark", viewport={"width": 390, "height": 844})
            assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            keep(phone, "monitor-dark-phone")
            load.finish(*roles)
            check_metrics(url)
            check_that_nothing_is_sent_twice(url)
    load.client.close()


def check_that_nothing_is_sent_twice(url: str) -> None:
    wait_until(lambda: '"twin":null' not in fetch(url + "/api/view")[1], "the twin")

    def known() -> bool:
        with urllib.request.urlopen(url + "/api/view", timeout=10) as answer:
            tag = answer.headers["ETag"]
        return fetch(url + "/api/view", {"If-None-Match": tag}) == (304, "")

    wait_until(known, "a view that stays the same, as nothing is learned any more")


def check_metrics(url: str) -> None:
    metrics = fetch(url + "/metrics")[1]
    for name in (
        "coldstream_cohort_ne{",
        "coldstream_twin_benefit{",
        "coldstream_feature_age_seconds{",
        "coldstream_join_total{",
        "coldstream_lag_records{",
        'coldstream_redis_kind_bytes{kind="users"}',
        'coldstream_redis_entity_bytes{of="user"}',
        "coldstream_ready 1",
    ):
        assert name in metrics
    assert len(json.loads(fetch(url + "/api/runs")[1])) == 1
    assert fetch(url + "/api/view?run=none")[0] == 404


def test_a_report_opens_without_a_server(browser: Browser, tmp_path: Path) -> None:
    settings = load_settings(environment={})
    run_backtest(settings, synthetic_log(5000, seed=4), ReplaySettings(), tmp_path)
    page, complaints = open_page(browser, write_report(settings, tmp_path)[0].as_uri())
    expect(page.locator("#user")).to_be_hidden()
    expect(page.locator("#served-section")).to_be_hidden()
    meter = ServedMeter(settings.monitor, len(settings.fields))
    for number, at in enumerate(np.array_split(np.arange(NUM), 12)):
        meter.observe(drawn()[0].take(at), T0 + 10_000 * number)
    Recorder(meter, tmp_path, keep=9, series=SERVED).write(1, T0 + 120_000)
    page, complaints = open_page(browser, write_report(settings, tmp_path)[0].as_uri())
    expect(page.locator("#served-series .scatterlayer .trace")).to_have_count(3)
    named = page.locator("#served tbody th").all_inner_texts()
    assert {"all", "user 0", "item 200+", "canary", "the rest", "arm none"} <= set(named)
    assert any(name.startswith("version ") for name in named)
    page.select_option("#over", "whole")
    expect(page.locator("#served tbody tr").first).to_contain_text("6,000")
    assert complaints == []
    keep(page, "report")
