"""How far an A/B test is, on the page: what it leaves in its run folder."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import expect, sync_playwright
from support.chromium import chromium_path
from support.web import fetch

from simulators.abtest.analysis.difference import difference_of
from simulators.abtest.reporting.progress import Progress
from simulators.abtest.verdict import GROUPS, Verdict
from state_store.embedded.child import free_port
from stream.command.roles import Role, wait_until
from stream.monitor.access.hosts import page_url
from stream.settings import Settings


def said(value: float) -> Verdict:
    of = {
        "click": difference_of(value, 0.01),
        "like": difference_of(-value, 0.02),
        "reach_gain": difference_of(value, 0.01),
    }
    return Verdict(dict.fromkeys(GROUPS, of), {}, {}, 1.0)


@pytest.fixture
def watched(settings: Settings, tmp_path: Path) -> Iterator[str]:
    monitor = msgspec.structs.replace(settings.monitor, port=free_port(), twin_share=0.0)
    with Role("monitor", msgspec.structs.replace(settings, monitor=monitor), tmp_path) as role:
        wait_until(lambda: "http://" in role.log.read_text(encoding="utf-8"), "the monitor", [role])
        yield page_url(monitor)


@pytest.mark.slow
def test_the_page_shows_a_test_as_soon_as_there_is_one(watched: str, tmp_path: Path) -> None:
    executable = chromium_path()
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        page = browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(watched)
        expect(page.locator("#state")).not_to_have_text("loading", timeout=30_000)
        assert fetch(f"{watched}api/abtest") == (200, "null")
        assert page.locator("#abtest").is_hidden()
        progress = Progress(tmp_path, "B.toml against A.toml", 2, 2)
        progress.told(7, 0, None)
        expect(page.locator("#abtest-said")).to_contain_text("world 1 of 2 (seed 7), before the test", timeout=30_000)
        for seed, day, value in ((7, 1, 0.04), (7, 2, 0.05), (8, 1, 0.02)):
            progress.told(seed, day, said(value))
        expect(page.locator("#abtest-said")).to_contain_text("world 2 of 2 (seed 8), day 1 of 2", timeout=30_000)
        # Day 2 of the first world and day 1 of the second, pooled.
        expect(page.locator("#abtest-table tbody tr").first).to_contain_text("3.50")
        expect(page.locator("#abtest-table tbody th").nth(1)).to_have_text("like, %")
        expect(page.locator("#abtest-table tbody th").nth(2)).to_have_text("reach_gain, points")
        expect(page.locator("#abtest-days .scatterlayer .trace")).to_have_count(3)
        assert complaints == []
