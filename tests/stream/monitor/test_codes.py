"""How codes of samples are used, on the page, in a real browser."""

import time
from pathlib import Path

import msgspec
import pytest
import redis
from playwright.sync_api import expect, sync_playwright
from support.chromium import chromium_path

from learner.sif.usage import CodeUsage
from state_store.embedded.child import free_port
from stream.command.roles import Role, wait_until
from stream.monitor.access.hosts import page_url
from stream.process.status import LearnerStatus
from stream.process.store import open_store
from stream.settings import Settings


@pytest.mark.slow
def test_the_page_tells_how_codes_are_used(settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    executable = chromium_path()
    monitor = msgspec.structs.replace(settings.monitor, port=free_port(), twin_share=0.0)
    status = LearnerStatus(time.time_ns() // 1_000_000, 9, [3, 6], {}, 1, 0, "", 0.7, 0.6, 1.0, None, None, 5)
    key = open_store(settings, client).keys.learner_status
    with (
        Role("monitor", msgspec.structs.replace(settings, monitor=monitor), tmp_path) as role,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        wait_until(lambda: "http://" in role.log.read_text(encoding="utf-8"), "the monitor", [role])
        page = browser.new_page()
        page.goto(page_url(monitor))
        codes = CodeUsage(3, 16, 11.5, 4.25, 0.125, 0.034)
        for used, said in (
            (None, "embedding rows"),
            (codes, "perplexity 11.5 of 16, at least 4.3; 12.5 % dead, moved 3.4 %"),
            (msgspec.structs.replace(codes, version=1, moved=None), "at least 4.3; 12.5 % dead"),
        ):
            client.set(key, msgspec.json.encode(msgspec.structs.replace(status, codes=used)))
            expect(page.locator("#health")).to_contain_text(said, timeout=30_000)
            assert ("codes of samples" in page.locator("#health").inner_text()) == (used is not None)
        expect(page.locator("#health")).not_to_contain_text("moved", timeout=30_000)
