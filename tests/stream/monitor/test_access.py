"""Who may ask the monitor: its own names only, with its token if it has one; and whose a port is that is taken."""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import expect, sync_playwright
from support.chromium import chromium_path

from state_store.embedded.child import free_port
from stream.command.roles import Role, wait_until
from stream.monitor.access.hosts import Access
from stream.process.port import PortTakenError, need_port, owner_of
from stream.sections import MonitorSettings
from stream.settings import Settings

TOKEN = "t0ken-of-the-monitor"


@pytest.mark.parametrize(
    ("settings", "own", "others"),
    [
        (MonitorSettings(), ["localhost:8900", "127.0.0.1", "[::1]:8900", "LOCALHOST."], ["evil.example", "10.0.0.9"]),
        (MonitorSettings(hosts=("shop.example",)), ["shop.example:443", "localhost"], ["shop.example.evil.net"]),
        (MonitorSettings(host="0.0.0.0"), ["10.0.0.9:8900", "[fe80::1]", socket.gethostname()], ["evil.example", ""]),
        (MonitorSettings(host="10.1.2.3"), ["10.1.2.3:8900"], ["evil.example", "10.1.2.3.evil.example"]),
    ],
)  # fmt: skip
def test_only_its_own_names_are_answered(settings: MonitorSettings, own: list[str], others: list[str]) -> None:
    access = Access(settings)
    assert [host for host in own if not access.is_own(host)] == []
    assert [host for host in others if access.is_own(host)] == []


@pytest.fixture
def port(settings: Settings, tmp_path: Path) -> Iterator[int]:
    """A monitor with a token."""
    monitor = msgspec.structs.replace(settings.monitor, port=free_port(), token=TOKEN, twin_share=0.0)
    with Role("monitor", msgspec.structs.replace(settings, monitor=monitor), tmp_path) as role:
        wait_until(lambda: "http://" in role.log.read_text(encoding="utf-8"), "the monitor", [role])
        yield monitor.port


def ask(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": host, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


DATA = ("/api/runs", "/api/view", "/api/health", "/api/user?id=u", "/metrics", "/readyz")


def test_another_name_is_refused_whatever_is_asked_for(port: int) -> None:
    for path in (*DATA, "/", "/page.js", "/plotly.js", "/nothing"):
        status, said = ask(port, path, "evil.example", Authorization=f"Bearer {TOKEN}")
        assert status == 421, path
        assert "monitor.hosts" in said
    assert ask(port, "/healthz", "10.0.0.1:8900")[0] == 200, "a probe asks by whatever name"


def test_figures_are_for_who_has_the_token(port: int) -> None:
    for path in DATA:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            status, said = ask(port, path, **given)
            assert status == 401, path
            assert TOKEN not in said
        assert ask(port, path, Authorization=f"Bearer {TOKEN}")[0] in (200, 404, 503), path
    for path in ("/", "/page.js", "/page.css", "/plotly.js", "/healthz"):
        assert ask(port, path)[0] == 200, path


@pytest.mark.slow
def test_the_page_takes_the_token_from_behind_the_hash_or_asks_for_it(port: int) -> None:
    executable = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/#token={TOKEN}")
        expect(page.locator("#state")).to_contain_text("no learner has reported", timeout=15_000)
        assert page.url == f"http://127.0.0.1:{port}/"
        expect(page.locator("#login")).to_be_hidden()
        other = browser.new_page()
        other.goto(f"http://127.0.0.1:{port}/")
        other.locator("#token").fill(TOKEN)
        other.keyboard.press("Enter")
        expect(other.locator("#state")).to_contain_text("no learner has reported", timeout=15_000)
        expect(other.locator("#login")).to_be_hidden()
        browser.close()


def test_the_owner_of_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert owner_of(port).startswith(f"{os.getpid()} (")
        with pytest.raises(PortTakenError, match=rf"monitor\.port {port}.*process {os.getpid()} \("):
            need_port(MonitorSettings(port=port))
    assert owner_of(port) == ""
    need_port(MonitorSettings(port=port))


def test_a_host_that_is_not_this_machines_is_refused_by_name() -> None:
    with pytest.raises(PortTakenError, match=r"monitor\.host '192\.0\.2\.1'"):
        need_port(MonitorSettings(host="192.0.2.1", port=8900))


def test_up_does_not_show_somebody_elses_page(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "stream.command.cli", "up", "--run", str(tmp_path), "--set", f"monitor.port={port}"],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"process {os.getpid()} (" in done.stderr
    assert "http://" not in done.stderr
